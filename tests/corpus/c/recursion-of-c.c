// Recursion whose locals overflow the stack in linear memory: C notices nothing, the memory's end does.
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
