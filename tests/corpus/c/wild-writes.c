// Overwrites all of its memory, the answer included; what it then answers points nowhere.
// expects: builder-invalid-value
// limits: fuel=100000000

#include "plan.h"

EXPORT("build") struct plan *build(u32 task, const u32 *input_shape, u32 input_rank, u32 input_type,
                                   const u32 *target_shape, u32 target_rank, u32 classes, u64 max_parameters,
                                   u32 trial, u32 trials) {
    u32 words = __builtin_wasm_memory_size(0) * 16384;
    for (volatile u32 *word = (volatile u32 *)4; word < (volatile u32 *)(words * 4); word++) *word = 0xdeadbe00;
    return &plan;
}
