// Writes upwards from a local array, over its own stack and globals, until memory ends.
// expects: builder-trapped

#include "plan.h"

EXPORT("build") struct plan *build(u32 task, const u32 *input_shape, u32 input_rank, u32 input_type,
                                   const u32 *target_shape, u32 target_rank, u32 classes, u64 max_parameters,
                                   u32 trial, u32 trials) {
    volatile u8 local[16];
    for (volatile u8 *byte = local;; byte++) *byte = 0x41;
    return &plan;
}
