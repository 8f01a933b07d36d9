// Converts a NaN and infinities to integers with the trapping instruction.
// expects: builder-trapped

#include "plan.h"

EXPORT("build") struct plan *build(u32 task, const u32 *input_shape, u32 input_rank, u32 input_type,
                                   const u32 *target_shape, u32 target_rank, u32 classes, u64 max_parameters,
                                   u32 trial, u32 trials) {
    volatile double zero = 0;
    double nan = zero / zero;
    u32 result;
    __asm__("local.get %1\n i32.trunc_f64_s\n local.set %0" : "=r"(result) : "r"(nan));
    plan.graph_length = result;
    return &plan;
}
