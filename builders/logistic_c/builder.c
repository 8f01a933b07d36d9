/* Logistic regression in C: the contract is not Python's.
 *
 * input -> Cast -> Flatten -> Gemm(weight, bias) -> output, with field numbers from onnx.proto.
 */
#include "chiron_builder.h"

enum { FLOAT = 1, UINT8 = 2 };

static chiron_bytes node(const char *operator, const char *first, const char *second, const char *third,
                         const char *output) {
    chiron_bytes made = {0};
    if (first) chiron_text(&made, 1, first);
    if (second) chiron_text(&made, 1, second);
    if (third) chiron_text(&made, 1, third);
    chiron_text(&made, 2, output);
    chiron_text(&made, 4, operator);
    return made;
}

static chiron_bytes with_integer(chiron_bytes node, const char *name, uint64_t value) {
    chiron_bytes attribute = {0};
    chiron_text(&attribute, 1, name);
    chiron_integer(&attribute, 3, value);
    chiron_integer(&attribute, 20, 2); /* AttributeProto.INT */
    chiron_message(&node, 5, attribute);
    return node;
}

/* A node that draws a tensor of this shape: N(0, scale), where scale is above 0. */
static chiron_bytes drawn(const char *output, const uint32_t *shape, uint32_t rank, float scale) {
    chiron_bytes made = node("RandomNormal", 0, 0, 0, output), sizes = {0}, deviation = {0};
    chiron_text(&sizes, 1, "shape");
    for (uint32_t i = 0; i < rank; i++) chiron_integer(&sizes, 8, shape[i]);
    chiron_integer(&sizes, 20, 7); /* INTS */
    chiron_message(&made, 5, sizes);
    chiron_text(&deviation, 1, "scale");
    chiron_float(&deviation, 2, scale);
    chiron_integer(&deviation, 20, 1); /* FLOAT */
    chiron_message(&made, 5, deviation);
    return made;
}

/* A parameter: its shape, and no data. */
static chiron_bytes parameter(const char *name, const uint32_t *shape, uint32_t rank) {
    chiron_bytes made = {0};
    for (uint32_t i = 0; i < rank; i++) chiron_integer(&made, 1, shape[i]);
    chiron_integer(&made, 2, FLOAT);
    chiron_text(&made, 8, name);
    return made;
}

/* ValueInfoProto of [N, shape…]. */
static chiron_bytes value(const char *name, uint32_t type, const uint32_t *shape, uint32_t rank) {
    chiron_bytes sizes = {0}, batch = {0}, tensor = {0}, kind = {0}, made = {0};
    chiron_text(&batch, 2, "N");
    chiron_message(&sizes, 1, batch);
    for (uint32_t i = 0; i < rank; i++) {
        chiron_bytes size = {0};
        chiron_integer(&size, 1, shape[i]);
        chiron_message(&sizes, 1, size);
    }
    chiron_integer(&tensor, 1, type);
    chiron_message(&tensor, 2, sizes);
    chiron_message(&kind, 1, tensor);
    chiron_text(&made, 1, name);
    chiron_message(&made, 2, kind);
    return made;
}

static chiron_bytes forward(const chiron_request *request, const uint32_t *weight) {
    chiron_bytes graph = {0};
    chiron_message(&graph, 1, with_integer(node("Cast", "input", 0, 0, "numbers"), "to", FLOAT));
    chiron_message(&graph, 1, node("Flatten", "numbers", 0, 0, "row"));
    chiron_message(&graph, 1, node("Gemm", "row", "weight", "bias", "output"));
    chiron_text(&graph, 2, "logistic");
    chiron_message(&graph, 5, parameter("weight", weight, 2));
    chiron_message(&graph, 5, parameter("bias", &request->classes, 1));
    uint32_t type = request->input_type == CHIRON_UINT8 ? UINT8 : FLOAT;
    chiron_message(&graph, 11, value("input", type, request->input_shape, request->input_rank));
    chiron_message(&graph, 12, value("output", FLOAT, &request->classes, 1));
    return graph;
}

static chiron_bytes training(const chiron_request *request, const uint32_t *weight) {
    const char *names[2][2] = {{"weight", "first weight"}, {"bias", "first bias"}};
    chiron_bytes graph = {0}, made = {0};
    chiron_message(&graph, 1, drawn("first weight", weight, 2, 0.01f));
    chiron_message(&graph, 1, drawn("first bias", &request->classes, 1, 0.01f));
    chiron_text(&graph, 2, "initialization");
    chiron_message(&made, 1, graph);
    for (int i = 0; i < 2; i++) {
        chiron_bytes binding = {0};
        chiron_text(&binding, 1, names[i][0]);
        chiron_text(&binding, 2, names[i][1]);
        chiron_message(&made, 3, binding);
    }
    return made;
}

chiron_answer chiron_build(const chiron_request *request) {
    chiron_answer answer = {{0}, 0, 0};
    if (request->task != CHIRON_CLASSIFICATION) {
        answer.refusal = "this builder classifies";
        return answer;
    }
    uint64_t elements = 1;
    for (uint32_t i = 0; i < request->input_rank; i++) elements *= request->input_shape[i];
    if ((elements + 1) * request->classes > request->max_parameters) {
        answer.refusal = "the input has too many elements for the parameters that are allowed";
        return answer;
    }
    uint32_t weight[2] = {(uint32_t)elements, request->classes};
    chiron_bytes operators = {0};
    chiron_text(&operators, 1, "");
    chiron_integer(&operators, 2, 17);
    chiron_integer(&answer.graph, 1, 10); /* IR version */
    chiron_message(&answer.graph, 7, forward(request, weight));
    chiron_message(&answer.graph, 8, operators);
    chiron_message(&answer.graph, 20, training(request, weight));
    answer.recipe = "{\"version\": 1, \"epochs\": 40, \"batch_size\": 32,"
                    " \"optimizer\": {\"kind\": \"adamw\", \"learning_rate\": 0.02}}";
    return answer;
}
