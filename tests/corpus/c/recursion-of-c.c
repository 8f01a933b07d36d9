// Recursion whose locals overflow the stack in linear memory: C notices nothing, the memory's end does.
// expects: builder-trapped

#include "plan.h"

static u32 deeper(volatile u32 level) {
    volatile u32 locals[2048];
    locals[level % 2048] = level;
    return deeper(level + 1) + locals[level % 2047];
}

EXPORT("build") struct plan *build(u32 task, const u32 *input_shape, u32 input_rank, u32 input_type,
                                   const u32 *target_shape, u32 target_rank, u32 classes, u64 max_parameters,
                                   u32 trial, u32 trials) {
    plan.graph_length = deeper(0);
    return &plan;
}
