// Does honest arithmetic for ever.
// expects: builder-out-of-fuel

#include "plan.h"

EXPORT("build") struct plan *build(u32 task, const u32 *input_shape, u32 input_rank, u32 input_type,
                                   const u32 *target_shape, u32 target_rank, u32 classes, u64 max_parameters,
                                   u32 trial, u32 trials) {
    volatile u64 found = 0;
    for (u64 number = 2;; number++) {
        int prime = 1;
        for (u64 divisor = 2; divisor * divisor <= number; divisor++)
            if (number % divisor == 0) prime = 0;
        found += prime;
    }
}
