// Answers two megabytes of memory that it never wrote, grown just before, as its graph: all zero.
// expects: plan-too-large

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
    __builtin_wasm_memory_grow(0, 64);
    plan.graph = heap + sizeof heap;
    plan.graph_length = (2u << 20) + 1;
    plan.recipe = "{}";
    plan.recipe_length = 2;
    return &plan;
}
