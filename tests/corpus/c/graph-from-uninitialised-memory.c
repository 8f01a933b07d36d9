// Answers two megabytes of memory that it never wrote, grown just before, as its graph: all zero.
// expects: plan-too-large

#include "plan.h"

EXPORT("build") struct plan *build(u32 task, const u32 *input_shape, u32 input_rank, u32 input_type,
                                   const u32 *target_shape, u32 target_rank, u32 classes, u64 max_parameters,
                                   u32 trial, u32 trials) {
    __builtin_wasm_memory_grow(0, 64);
    plan.graph = heap + sizeof heap;
    plan.graph_length = (2u << 20) + 1;
    plan.recipe = "{}";
    plan.recipe_length = 2;
    return &plan;
}
