/* Write builders in C: define chiron_build. `chiron builder build` compiles builder.c with this header.
 *
 * The header is all there is: no library, no import, one arena that is never freed, since a builder answers
 * once. What it exports is what the canonical ABI wants of `build` (wasm_sandbox/wit/worlds.wit), flattened.
 */
#ifndef CHIRON_BUILDER_H
#define CHIRON_BUILDER_H

#include <stdint.h>

/* ---- What the builder is asked, and what it answers ---- */

enum { CHIRON_CLASSIFICATION = 0, CHIRON_REGRESSION = 1 };
enum { CHIRON_UINT8 = 0, CHIRON_FLOAT32 = 1 };

typedef struct {
    uint32_t task;
    const uint32_t *input_shape; /* one example's */
    uint32_t input_rank;
    uint32_t input_type;
    const uint32_t *target_shape;
    uint32_t target_rank;
    uint32_t classes; /* 0 for a regression */
    uint64_t max_parameters;
    uint32_t trial, trials;
} chiron_request;

typedef struct {
    uint8_t *bytes;
    uint32_t length, capacity;
} chiron_bytes;

typedef struct {
    chiron_bytes graph;   /* ONNX ModelProto */
    const char *recipe;   /* JSON */
    const char *refusal;  /* set it instead of the others: why there is no model for this request */
} chiron_answer;

chiron_answer chiron_build(const chiron_request *request);

/* ---- Memory ---- */

#define CHIRON_ARENA_BYTES (4u << 20)
static uint8_t chiron_arena[CHIRON_ARENA_BYTES] __attribute__((aligned(16)));
static uint32_t chiron_used;

static void *chiron_take(uint32_t size) {
    uint32_t begin = (chiron_used + 15u) & ~15u;
    if (size > CHIRON_ARENA_BYTES - begin) __builtin_trap();
    chiron_used = begin + size;
    return chiron_arena + begin;
}

/* The compiler calls these for copies; there is no C library. */
void *memcpy(void *to, const void *from, unsigned long count) {
    for (unsigned long i = 0; i < count; i++) ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    return to;
}

void *memset(void *to, int value, unsigned long count) {
    for (unsigned long i = 0; i < count; i++) ((uint8_t *)to)[i] = (uint8_t)value;
    return to;
}

static uint32_t chiron_length(const char *text) {
    uint32_t length = 0;
    while (text[length]) length++;
    return length;
}

/* ---- Protobuf: each function appends one field ---- */

static void chiron_append(chiron_bytes *to, const void *bytes, uint32_t count) {
    if (to->length + count > to->capacity) {
        uint32_t capacity = 2 * (to->length + count) + 64;
        uint8_t *larger = chiron_take(capacity);
        memcpy(larger, to->bytes, to->length);
        to->bytes = larger;
        to->capacity = capacity;
    }
    memcpy(to->bytes + to->length, bytes, count);
    to->length += count;
}

static void chiron_varint(chiron_bytes *to, uint64_t number) {
    do {
        uint8_t byte = (uint8_t)(number & 0x7f) | (number > 0x7f ? 0x80 : 0);
        chiron_append(to, &byte, 1);
        number >>= 7;
    } while (number);
}

static void chiron_integer(chiron_bytes *to, uint32_t field, uint64_t number) {
    chiron_varint(to, field << 3);
    chiron_varint(to, number);
}

static void chiron_float(chiron_bytes *to, uint32_t field, float number) {
    chiron_varint(to, field << 3 | 5);
    chiron_append(to, &number, 4);
}

static void chiron_blob(chiron_bytes *to, uint32_t field, const void *bytes, uint32_t count) {
    chiron_varint(to, field << 3 | 2);
    chiron_varint(to, count);
    chiron_append(to, bytes, count);
}

static void chiron_text(chiron_bytes *to, uint32_t field, const char *text) {
    chiron_blob(to, field, text, chiron_length(text));
}

static void chiron_message(chiron_bytes *to, uint32_t field, chiron_bytes message) {
    chiron_blob(to, field, message.bytes, message.length);
}

/* ---- The component's exports ---- */

__attribute__((export_name("realloc"))) void *chiron_realloc(void *old, uint32_t old_size, uint32_t align,
                                                             uint32_t size) {
    (void)align;
    void *made = chiron_take(size);
    if (old_size) memcpy(made, old, old_size < size ? old_size : size);
    return made;
}

__attribute__((export_name("build"))) uint32_t *chiron_export_build(
    uint32_t task, const uint32_t *input_shape, uint32_t input_rank, uint32_t input_type,
    const uint32_t *target_shape, uint32_t target_rank, uint32_t classes, uint64_t max_parameters,
    uint32_t trial, uint32_t trials) {
    chiron_request request = {task,        input_shape, input_rank,     input_type, target_shape,
                              target_rank, classes,     max_parameters, trial,      trials};
    chiron_answer answer = chiron_build(&request);
    uint32_t *result = chiron_take(5 * sizeof(uint32_t)); /* result<plan, string> */
    if (answer.refusal) {
        result[0] = 1;
        result[1] = (uint32_t)(uintptr_t)answer.refusal;
        result[2] = chiron_length(answer.refusal);
        return result;
    }
    result[0] = 0;
    result[1] = (uint32_t)(uintptr_t)answer.graph.bytes;
    result[2] = answer.graph.length;
    result[3] = (uint32_t)(uintptr_t)answer.recipe;
    result[4] = chiron_length(answer.recipe);
    return result;
}

#endif
