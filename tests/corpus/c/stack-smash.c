// Writes upwards from a local array, over its own stack and globals, until memory ends.
// expects: builder-trapped

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
    volatile u8 local[16];
    for (volatile u8 *byte = local;; byte++) *byte = 0x41;
    return &plan;
}
