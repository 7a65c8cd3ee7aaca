// The table of inner kernels that each instruction set fills in (body.h), and the activations they read.
#pragma once
#include "layout.h"

struct Activations {  // rows of a product's left side; q, scale and sum only where a quantised weight reads them
    const float *x;
    const int8_t *q;
    const float *scale, *sum;  // (rows, cols / 32): x = scale q; sum = scale * sum of the group's q
    int ld;                    // cols
};

struct AttentionUnit {  // queries [begin, end) of one sequence against one key-value head
    const float *q;     // (T, ldq): of this layer, rope applied
    int ldq, begin, end, group, head_dim, kv_head, kv_heads, window;
    const int32_t *position, *table;
    const WwKv *kv;
    int64_t layer;
    float scale;
    float *out;  // (T, ldo)
    int ldo;
    float *scratch;
};

struct Kernels {
    const char *name;
    void (*panels)(const WwWeight *, const Activations *, int panel, int panel_end, int row, int row_end, float *out,
                   int ldo, const float *residual);
    void (*quantise)(const float *x, int n, int8_t *q, float *scale, float *sum);
    void (*rms_norm)(const float *x, const float *weight, float eps, int n, float *out);
    void (*swiglu)(const float *gate, const float *up, int n, float *out);
    void (*rope)(float *x, const float *cos, const float *sin, int head_dim);
    void (*append)(const WwKv *, int64_t layer, int kv_heads, int head_dim, int block, int slot, const float *k,
                   const float *v);
    void (*attend)(const AttentionUnit *);
    void (*row)(const WwWeight *, int row, float *out);
};

// Query rows of a unit, and keys of a chunk. Chunks begin at multiples of CHUNK, whatever the batch: a query's sums run
// in the same order in prefill, in decode and after a preemption, so its answer does not depend on its company.
enum { UNIT_ROWS = 24, CHUNK = 128 };
static inline int64_t attention_scratch(int head_dim) {  // floats
    return (int64_t)UNIT_ROWS * (2 * head_dim + CHUNK + 4) + 2 * (int64_t)CHUNK * head_dim + 64;
}

const Kernels *kernels_plain();
const Kernels *kernels_avx2();    // null where the compiler or the processor lacks it
const Kernels *kernels_avx512();  // likewise
