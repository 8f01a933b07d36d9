// A builder of honest arithmetic on floats: NaN of all kinds, denormals, conversions, SIMD.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef float f32x4 __attribute__((vector_size(16)));
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
static struct { double doubles[4096]; float floats[4096]; } results;

static const double STARTS[] = {0.0, -0.0, 1.0, -1.0, 5e-324, 1e308, 3.141592653589793, 1e-300};

EXPORT("build") struct plan *build(u32 task, const u32 *input_shape, u32 input_rank, u32 input_type,
                                   const u32 *target_shape, u32 target_rank, u32 classes, u64 max_parameters,
                                   u32 trial, u32 trials) {
    u32 count = 0;
    for (u32 first = 0; first < 8; first++)
        for (u32 second = 0; second < 8; second++) {
            volatile double a = STARTS[first], b = STARTS[second];
            double *place = &results.doubles[count];
            place[0] = a / b;
            place[1] = a * b - a / b;
            place[2] = __builtin_sqrt(a - b);
            place[3] = __builtin_copysign(a / 0.0 * 0.0, b);
            place[4] = __builtin_floor(a * 1e10 + b) + __builtin_trunc(b);
            place[5] = (double)(float)a + (float)b;
            place[6] = a > b ? a : b;
            place[7] = __builtin_fabs(-(0.0 / (a - a)));
            f32x4 lanes = {(float)a, (float)b, (float)(a / b), 1.0f};
            f32x4 more = lanes / (lanes - lanes) + lanes * lanes;
            *(f32x4 *)&results.floats[count] = more;
            count += 8;
        }
    double x = 0.1 * classes;
    for (u32 step = 0; step < 100000; step++) x = 3.99 * x * (1 - x);
    results.doubles[4095] = x;
    plan.graph = (const u8 *)&results;
    plan.graph_length = sizeof results;
    plan.recipe = "{}";
    plan.recipe_length = 2;
    return &plan;
}
