/* Loads a model, runs it on ones, prints the first elements of every output.
 *
 *   run_model MODEL.onnx [THREADS] */
#include <linnet/linnet.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_PORTS 16
#define MAX_RANK 64

static void check(linnet_status status, const char* what) {
    if (status == LINNET_OK) return;
    fprintf(stderr, "%s: %s: %s\n", what, linnet_status_text(status), linnet_last_error());
    exit(1);
}

/* A float32 tensor of ones over memory of our own, with 1 for every open size. */
static linnet_value* ones(const linnet_port* port, float** memory) {
    int64_t dims[MAX_RANK];
    size_t count = 1, i;
    linnet_value* value = NULL;
    if (port->dtype != LINNET_FLOAT32 || port->rank < 0) {
        fprintf(stderr, "input '%s' is not a float32 tensor of known rank\n", port->name);
        exit(1);
    }
    for (i = 0; i < (size_t)port->rank; ++i) {
        dims[i] = port->dims[i] < 0 ? 1 : port->dims[i];
        count *= (size_t)dims[i];
    }
    *memory = malloc(count * sizeof(float) + 1);
    if (*memory == NULL) {
        fprintf(stderr, "no memory for input '%s'\n", port->name);
        exit(1);
    }
    for (i = 0; i < count; ++i) (*memory)[i] = 1.0f;
    check(linnet_tensor_view(LINNET_FLOAT32, dims, (size_t)port->rank, *memory, count * sizeof(float), &value),
          port->name);
    return value;
}

int main(int argc, char** argv) {
    linnet_options* options = NULL;
    linnet_session* session = NULL;
    const char* names[MAX_PORTS];
    linnet_value* inputs[MAX_PORTS];
    float* memory[MAX_PORTS];
    linnet_value* outputs[MAX_PORTS] = {NULL};
    size_t input_count, output_count, i, k;

    if (argc < 2) {
        fprintf(stderr, "usage: %s MODEL.onnx [THREADS]\n", argv[0]);
        return 2;
    }
    check(linnet_check_api(LINNET_API_VERSION), "library");
    check(linnet_options_create(&options), "options");
    if (argc > 2) check(linnet_options_set(options, "threads", argv[2]), "options");
    check(linnet_session_open(argv[1], options, &session), "load");
    linnet_options_destroy(options);

    input_count = linnet_session_input_count(session);
    output_count = linnet_session_output_count(session);
    if (input_count > MAX_PORTS || output_count > MAX_PORTS) {
        fprintf(stderr, "more than %d inputs or outputs\n", MAX_PORTS);
        return 1;
    }
    for (i = 0; i < input_count; ++i) {
        linnet_port port;
        check(linnet_session_input(session, i, &port), "input");
        names[i] = port.name;
        inputs[i] = ones(&port, &memory[i]);
    }
    check(linnet_session_run(session, names, (const linnet_value* const*)inputs, input_count, NULL, outputs,
                             output_count),
          "run");

    printf("linnet %s, %s\n", linnet_version(), linnet_isa());
    for (i = 0; i < output_count; ++i) {
        linnet_port port;
        linnet_dtype dtype;
        const int64_t* dims;
        size_t rank, count;
        void* data;
        check(linnet_session_output(session, i, &port), "output");
        check(linnet_tensor_info(outputs[i], &dtype, &dims, &rank, &count), port.name);
        printf("%s: %s [", port.name, linnet_dtype_name(dtype));
        for (k = 0; k < rank; ++k) printf(k ? ", %lld" : "%lld", (long long)dims[k]);
        printf("]");
        if (dtype == LINNET_FLOAT32) {
            check(linnet_tensor_data(outputs[i], &data, NULL), port.name);
            for (k = 0; k < count && k < 8; ++k) printf(" %g", ((const float*)data)[k]);
        }
        printf("\n");
        linnet_value_destroy(outputs[i]);
    }
    for (i = 0; i < input_count; ++i) {
        linnet_value_destroy(inputs[i]);
        free(memory[i]);
    }
    linnet_session_destroy(session);
    return 0;
}
