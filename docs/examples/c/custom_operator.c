/* Registers the operator my.domain.Clamp, then runs a model that calls it, on -2 .. 2.
 *
 *   custom_operator MODEL.onnx        (one float32 input of any known rank) */
#include <linnet/linnet.h>
#include <stdio.h>
#include <stdlib.h>

/* What the functions are given besides the node: here the limits where a node has no attributes. */
struct limits {
    float low, high;
};

/* The output is like the input. Sizes that are not known yet are handed on as they are. */
static linnet_status infer_clamp(linnet_node* node, void* context) {
    linnet_dtype dtype;
    const int64_t* dims;
    int64_t rank;
    linnet_status status = linnet_node_input_type(node, 0, &dtype, &dims, &rank);
    (void)context;
    if (status != LINNET_OK) return status;
    if (dtype != LINNET_FLOAT32) return linnet_node_fail(node, "Clamp takes float32");
    return linnet_node_infer(node, 0, dtype, dims, rank);
}

static linnet_status run_clamp(linnet_node* node, void* context) {
    const struct limits* limits = context;
    float low = limits->low, high = limits->high;
    const linnet_value* input;
    linnet_dtype dtype;
    const int64_t* dims;
    size_t rank, count, i;
    void *from, *to;
    linnet_status status;
    if ((status = linnet_node_float(node, "low", &low)) != LINNET_OK) return status;
    if ((status = linnet_node_float(node, "high", &high)) != LINNET_OK) return status;
    if (low > high) return linnet_node_fail(node, "low is above high");
    if ((status = linnet_node_input(node, 0, &input)) != LINNET_OK) return status;
    if ((status = linnet_tensor_info(input, &dtype, &dims, &rank, &count)) != LINNET_OK) return status;
    if ((status = linnet_tensor_data(input, &from, NULL)) != LINNET_OK) return status;
    if ((status = linnet_node_allocate(node, 0, dtype, dims, rank, &to)) != LINNET_OK) return status;
    for (i = 0; i < count; ++i) {
        const float x = ((const float*)from)[i];
        ((float*)to)[i] = x < low ? low : x > high ? high : x;
    }
    return LINNET_OK;
}

static void check(linnet_status status, const char* what) {
    if (status == LINNET_OK) return;
    fprintf(stderr, "%s: %s: %s\n", what, linnet_status_text(status), linnet_last_error());
    exit(1);
}

int main(int argc, char** argv) {
    static struct limits limits = {-1, 1};
    static float x[5] = {-2, -1, 0, 1, 2};
    const int64_t dims[1] = {5};
    linnet_operator clamp = {0};
    linnet_session* session = NULL;
    linnet_value *input = NULL, *output = NULL;
    linnet_port port;
    void* y;
    size_t i, bytes;
    if (argc != 2) {
        fprintf(stderr, "usage: %s MODEL.onnx\n", argv[0]);
        return 2;
    }
    clamp.domain = "my.domain";
    clamp.name = "Clamp";
    clamp.since_version = 1;
    clamp.infer = infer_clamp;
    clamp.run = run_clamp;
    clamp.context = &limits;
    check(linnet_check_api(LINNET_API_VERSION), "library");
    check(linnet_operator_register(&clamp), "register");
    check(linnet_session_open(argv[1], NULL, &session), "load");
    check(linnet_session_input(session, 0, &port), "input");
    check(linnet_tensor_view(LINNET_FLOAT32, dims, 1, x, sizeof x, &input), "input");
    check(linnet_session_run(session, &port.name, (const linnet_value* const*)&input, 1, NULL, &output, 1), "run");
    check(linnet_tensor_data(output, &y, &bytes), "output");
    for (i = 0; i < bytes / sizeof(float); ++i) printf(i ? " %g" : "%g", ((const float*)y)[i]);
    printf("\n");
    linnet_value_destroy(output);
    linnet_value_destroy(input);
    linnet_session_destroy(session);
    check(linnet_operator_unregister("my.domain", "Clamp", 1), "unregister");
    return 0;
}
