/* Linnet's C interface: load an ONNX model, run it.
 *
 * Objects are opaque handles, made by functions that end in _create, _open or _view and freed by the matching _destroy
 * (NULL is allowed there). Every function that can fail returns a linnet_status; linnet_last_error() then gives the
 * text, for the calling thread. No exception crosses this interface.
 *
 * Threads: a session may be run from any number of threads at once. Other handles are for one thread at a time.
 * Text is UTF-8. Results are written through pointers, which must not be NULL unless it says so, and only on success.
 */
#ifndef LINNET_LINNET_H
#define LINNET_LINNET_H

#include <stddef.h>
#include <stdint.h>

#if defined(LINNET_BUILD)
#define LINNET_API __attribute__((visibility("default")))
#else
#define LINNET_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Versions ---------------------------------------------------------------------------------------------------- */

/* Grows when functions are added; functions are never removed or changed within one major version of the library. */
#define LINNET_API_VERSION 2

/* The library's version, "0.1.0". */
LINNET_API const char* linnet_version(void);
/* The LINNET_API_VERSION that the library was built with. */
LINNET_API uint32_t linnet_api_version(void);
/* The name of the kernels in use: "avx2", "avx512", "neon", ... */
LINNET_API const char* linnet_isa(void);

/* ---- Errors ------------------------------------------------------------------------------------------------------ */

typedef enum linnet_status {
    LINNET_OK = 0,
    LINNET_FAIL = 1,             /* anything without a better name */
    LINNET_INVALID_ARGUMENT = 2, /* names, shapes, types or options that do not fit */
    LINNET_NO_SUCH_FILE = 3,     /* a path that cannot be opened */
    LINNET_INVALID_PROTOBUF = 4, /* bytes that are not an ONNX model */
    LINNET_INVALID_GRAPH = 5,    /* an ONNX model that breaks the specification */
    LINNET_NOT_IMPLEMENTED = 6,  /* an operator, opset or type that the library does not have */
    LINNET_RUNTIME_ERROR = 7,    /* a step failed while running */
    LINNET_CANCELLED = 8,        /* a time limit or another thread stopped the run */
    LINNET_OUT_OF_MEMORY = 9
} linnet_status;

/* The text of the last failure in this thread; "" when there was none. Valid until this thread's next failure. */
LINNET_API const char* linnet_last_error(void);
/* "invalid argument", ... */
LINNET_API const char* linnet_status_text(linnet_status status);
/* Fails when the header that a program was compiled with is newer than the library: pass LINNET_API_VERSION. */
LINNET_API linnet_status linnet_check_api(uint32_t api_version);

/* ---- Values ------------------------------------------------------------------------------------------------------ */

/* Element types, with ONNX's numbers. Types narrower than a byte take one byte an element. */
typedef enum linnet_dtype {
    LINNET_UNDEFINED = 0,
    LINNET_FLOAT32 = 1,
    LINNET_UINT8 = 2,
    LINNET_INT8 = 3,
    LINNET_UINT16 = 4,
    LINNET_INT16 = 5,
    LINNET_INT32 = 6,
    LINNET_INT64 = 7,
    LINNET_STRING = 8,
    LINNET_BOOL = 9,
    LINNET_FLOAT16 = 10,
    LINNET_FLOAT64 = 11,
    LINNET_UINT32 = 12,
    LINNET_UINT64 = 13,
    LINNET_COMPLEX64 = 14,
    LINNET_COMPLEX128 = 15,
    LINNET_BFLOAT16 = 16,
    LINNET_FLOAT8E4M3FN = 17,
    LINNET_FLOAT8E4M3FNUZ = 18,
    LINNET_FLOAT8E5M2 = 19,
    LINNET_FLOAT8E5M2FNUZ = 20,
    LINNET_UINT4 = 21,
    LINNET_INT4 = 22,
    LINNET_FLOAT4E2M1 = 23,
    LINNET_FLOAT8E8M0 = 24,
    LINNET_UINT2 = 25,
    LINNET_INT2 = 26
} linnet_dtype;

/* Bytes of one element in memory; 0 for strings and unknown numbers. */
LINNET_API size_t linnet_dtype_size(linnet_dtype dtype);
/* "float32", ... */
LINNET_API const char* linnet_dtype_name(linnet_dtype dtype);

typedef enum linnet_kind {
    LINNET_ABSENT = 0, /* an optional without a value */
    LINNET_TENSOR = 1,
    LINNET_SEQUENCE = 2,
    LINNET_MAP = 3
} linnet_kind;

typedef struct linnet_value linnet_value;

/* A tensor over the caller's memory, which is not copied: it must hold `bytes` bytes in row-major order, at least as
 * many as the shape needs, and stay valid until the value is destroyed. Not for strings. */
LINNET_API linnet_status linnet_tensor_view(linnet_dtype dtype, const int64_t* dims, size_t rank, void* data,
                                            size_t bytes, linnet_value** value);
/* A tensor with memory of its own, all zero. Not for strings. */
LINNET_API linnet_status linnet_tensor_create(linnet_dtype dtype, const int64_t* dims, size_t rank,
                                              linnet_value** value);
/* A tensor of strings, which are copied. `lengths` in bytes; NULL: the strings end with a zero. */
LINNET_API linnet_status linnet_tensor_create_strings(const char* const* strings, const size_t* lengths,
                                                      const int64_t* dims, size_t rank, linnet_value** value);
/* A sequence of the given values, which are shared: their handles may be destroyed, their callers' memory may not. */
LINNET_API linnet_status linnet_sequence_create(const linnet_value* const* items, size_t count, linnet_value** value);
LINNET_API void linnet_value_destroy(linnet_value* value);

LINNET_API linnet_kind linnet_value_kind(const linnet_value* value);
/* Of a tensor; `dims` has `rank` numbers and is valid as long as the value. Each of the pointers may be NULL. */
LINNET_API linnet_status linnet_tensor_info(const linnet_value* value, linnet_dtype* dtype, const int64_t** dims,
                                            size_t* rank, size_t* count);
/* The elements of a tensor, valid as long as the value; row-major. Not for strings. `bytes` may be NULL. */
LINNET_API linnet_status linnet_tensor_data(const linnet_value* value, void** data, size_t* bytes);
/* One string of a tensor of strings: `length` bytes and a zero behind them. `length` may be NULL. */
LINNET_API linnet_status linnet_tensor_string(const linnet_value* value, size_t index, const char** text,
                                              size_t* length);
/* Items of a sequence; of a map, which has two: the tensor of its keys and the tensor of its values. */
LINNET_API linnet_status linnet_value_size(const linnet_value* value, size_t* size);
LINNET_API linnet_status linnet_value_item(const linnet_value* value, size_t index, linnet_value** item);

/* ---- Sessions ---------------------------------------------------------------------------------------------------- */

typedef struct linnet_options linnet_options;
typedef struct linnet_session linnet_session;

LINNET_API linnet_status linnet_options_create(linnet_options** options);
LINNET_API void linnet_options_destroy(linnet_options* options);
/* Sets an option from text:
 *   "threads"          threads of one run; 0 (default): as many as CPUs that the process may use
 *   "optimization"     0: none, 1: rewrites that ONNX can express, 2 (default): everything
 *   "exact"            1: no algorithm that rounds more than a reordered sum does; default 0
 *   "profile"          1: record the time of every step; default 0
 *   "memory_limit"     bytes that weights, intermediates and results under way may take together; 0 (default): the
 *                      memory that the process may use
 *   "max_model_bytes"  of the model's file and those of its external data; default 2^40
 *   "max_nodes"        of the graph and its subgraphs, functions inlined; default 250000
 *   "max_nesting"      of subgraphs and functions; default 32
 *   "max_rank"         of tensors; default (and at most) 64
 *   "optimized_model"  a path to which the simplified model is written as ONNX
 *   "dimension:NAME"   a number for the model's symbolic dimension NAME */
LINNET_API linnet_status linnet_options_set(linnet_options* options, const char* key, const char* value);

/* `options` may be NULL. The path's folder is where the model's external data may lie. */
LINNET_API linnet_status linnet_session_open(const char* path, const linnet_options* options, linnet_session** session);
/* From the bytes of an ONNX file, which are copied. */
LINNET_API linnet_status linnet_session_create(const void* bytes, size_t size, const linnet_options* options,
                                               linnet_session** session);
LINNET_API void linnet_session_destroy(linnet_session* session);

/* An input or output as the model declares it. All pointers are valid as long as the session. */
typedef struct linnet_port {
    const char* name;
    linnet_kind kind;
    linnet_dtype dtype;           /* of a tensor; of the elements of a sequence; of the values of a map */
    int64_t rank;                 /* -1: not known */
    const int64_t* dims;          /* `rank` sizes; -1 where a size is symbolic or not known */
    const char* const* dim_names; /* `rank` texts; "batch" where a size is symbolic, else "" */
} linnet_port;

LINNET_API size_t linnet_session_input_count(const linnet_session* session);
LINNET_API size_t linnet_session_output_count(const linnet_session* session);
LINNET_API linnet_status linnet_session_input(const linnet_session* session, size_t index, linnet_port* port);
LINNET_API linnet_status linnet_session_output(const linnet_session* session, size_t index, linnet_port* port);
/* The text of a key in the model's metadata; NULL when it is not there. */
LINNET_API const char* linnet_session_metadata(const linnet_session* session, const char* key);
/* The times of all steps so far (option "profile") as JSON in the Chrome trace-event format; free with
 * linnet_text_destroy. */
LINNET_API linnet_status linnet_session_trace(linnet_session* session, char** text);
LINNET_API void linnet_text_destroy(char* text);

/* Runs the model. `input_names` and `inputs` have `input_count` entries. `output_names` has `output_count` entries;
 * NULL: all outputs in the model's order, and `output_count` must be their number. `outputs` has `output_count`
 * entries, which must be set before the call: NULL asks for a new value, which the caller destroys; a tensor of the
 * output's type and shape is written to instead (linnet_tensor_view: into the caller's memory). On failure no new
 * values are made. */
LINNET_API linnet_status linnet_session_run(linnet_session* session, const char* const* input_names,
                                            const linnet_value* const* inputs, size_t input_count,
                                            const char* const* output_names, linnet_value** outputs,
                                            size_t output_count);

/* A switch with which one thread stops the runs of others. It may be set from any thread and from signal handlers. */
typedef struct linnet_flag linnet_flag;
LINNET_API linnet_status linnet_flag_create(linnet_flag** flag);
LINNET_API void linnet_flag_destroy(linnet_flag* flag); /* after the runs that were given it have ended */
LINNET_API void linnet_flag_set(linnet_flag* flag, int on);

/* linnet_session_run with limits: the run ends with LINNET_CANCELLED soon after `stop` (may be NULL) is set, or after
 * `time_limit_ms` milliseconds (0: no limit). */
LINNET_API linnet_status linnet_session_run_limited(linnet_session* session, const char* const* input_names,
                                                    const linnet_value* const* inputs, size_t input_count,
                                                    const char* const* output_names, linnet_value** outputs,
                                                    size_t output_count, const linnet_flag* stop,
                                                    uint64_t time_limit_ms);

/* ---- Operators of your own --------------------------------------------------------------------------------------- */

/* A node, while one of its operator's functions is called with it; not longer, and not from other threads. */
typedef struct linnet_node linnet_node;

/* An operator that models call by domain and name. Set what is not used to 0. */
typedef struct linnet_operator {
    const char* domain;
    const char* name;
    int since_version; /* first version of the domain's opset in which the operator is this one; at least 1 */
    /* Says the types of the outputs (linnet_node_infer). Called when a model is loaded and for each new signature of
     * input shapes. NULL: nothing is known of the outputs before they are there, and what follows is not planned. */
    linnet_status (*infer)(linnet_node* node, void* context);
    /* Makes every output (linnet_node_allocate, linnet_node_put). Called by several threads at once when a session is
     * run by several. */
    linnet_status (*run)(linnet_node* node, void* context);
    void* context; /* given to the functions; must live as long as models that use the operator */
} linnet_operator;

/* For models that are loaded from now on; the struct is copied. Fails when Linnet has the operator itself, or when it
 * is registered already in this version. May be called from any thread. */
LINNET_API linnet_status linnet_operator_register(const linnet_operator* op);
/* Models that are loaded keep the operator. */
LINNET_API linnet_status linnet_operator_unregister(const char* domain, const char* name, int since_version);

/* For `return linnet_node_fail(node, "low is above high");` in one of the functions: the text becomes part of the
 * error's. A function that returns a status of another call hands on that call's text. */
LINNET_API linnet_status linnet_node_fail(linnet_node* node, const char* text);

/* Inputs that are given and left out, outputs that the model names. */
LINNET_API size_t linnet_node_input_count(const linnet_node* node);
LINNET_API size_t linnet_node_output_count(const linnet_node* node);
/* Attributes. When the node has none of that name, the results stay as they are: set them to the default first. Texts
 * and lists are valid as long as the node. */
LINNET_API linnet_status linnet_node_int(const linnet_node* node, const char* name, int64_t* value);
LINNET_API linnet_status linnet_node_float(const linnet_node* node, const char* name, float* value);
LINNET_API linnet_status linnet_node_string(const linnet_node* node, const char* name, const char** text,
                                            size_t* length);
LINNET_API linnet_status linnet_node_ints(const linnet_node* node, const char* name, const int64_t** values,
                                          size_t* count);
LINNET_API linnet_status linnet_node_floats(const linnet_node* node, const char* name, const float** values,
                                            size_t* count);
/* The value is a tensor, and belongs to the node. */
LINNET_API linnet_status linnet_node_tensor(const linnet_node* node, const char* name, const linnet_value** value);

/* An input: NULL when it is left out and, in `infer`, when it is not a constant. The value belongs to the node and must
 * not be written to. */
LINNET_API linnet_status linnet_node_input(linnet_node* node, size_t index, const linnet_value** value);
/* An input's type; in `infer` as far as it is known: LINNET_UNDEFINED, a rank of -1. A size below 0 is not known yet;
 * it may be given to linnet_node_infer as it is, which says that both are equal, but not be calculated with. All zero
 * and rank -1 when the input is left out. */
LINNET_API linnet_status linnet_node_input_type(linnet_node* node, size_t index, linnet_dtype* dtype,
                                                const int64_t** dims, int64_t* rank);
/* In `infer`: the type of an output. `dims` has `rank` sizes, -1 where a size depends on the inputs' values; a rank of
 * -1 says that it is not known. */
LINNET_API linnet_status linnet_node_infer(linnet_node* node, size_t index, linnet_dtype dtype, const int64_t* dims,
                                           int64_t rank);
/* In `run`: memory for an output, to be filled: row-major, aligned to 64 bytes or as the caller's memory is. The type
 * must be as `infer` has said. Not for strings. */
LINNET_API linnet_status linnet_node_allocate(linnet_node* node, size_t index, linnet_dtype dtype, const int64_t* dims,
                                              size_t rank, void** data);
/* In `run`: an output that is a value of any kind; the caller destroys its handle afterwards. */
LINNET_API linnet_status linnet_node_put(linnet_node* node, size_t index, const linnet_value* value);

#ifdef __cplusplus
}
#endif

#endif
