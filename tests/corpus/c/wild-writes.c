// Overwrites all of its memory, the answer included; what it then answers points nowhere.
// expects: builder-invalid-value
// limits: fuel=100000000

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
#define EXPORT(name) __attribute__((export_name(name)))

static u8 heap[65536];
static u32 used;

EXPORT("realloc") void *allocate(void *old, u32 old_size, u32 alignment, u32 size) {
    used = (used + alignment - 1) & ~(alignment - 1);
    void *place = heap + used;
    used += size;
    return place;
}

struct plan { u8 tag; const u8 *graph; u32 graph_length; const char *recipe; u32 recipe_length; };
static struct plan plan;

EXPORT("build") struct plan *build(u32 task, const u32 *input_shape, u32 input_rank, u32 input_type,
                                   const u32 *target_shape, u32 target_rank, u32 classes, u64 max_parameters,
                                   u32 trial, u32 trials) {
    u32 words = __builtin_wasm_memory_size(0) * 16384;
    for (volatile u32 *word = (volatile u32 *)4; word < (volatile u32 *)(words * 4); word++) *word = 0xdeadbe00;
    return &plan;
}
