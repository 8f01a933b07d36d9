// Answers with a pointer to a plan whose recipe lies where the stack was: whatever is there is data.
// expects: builder-invalid-value

#include "plan.h"

EXPORT("build") struct plan *build(u32 task, const u32 *input_shape, u32 input_rank, u32 input_type,
                                   const u32 *target_shape, u32 target_rank, u32 classes, u64 max_parameters,
                                   u32 trial, u32 trials) {
    plan.graph = (const u8 *)&plan;
    plan.graph_length = sizeof plan;
    plan.recipe = (const char *)0xfffffff0u;
    plan.recipe_length = 64;
    return &plan;
}
