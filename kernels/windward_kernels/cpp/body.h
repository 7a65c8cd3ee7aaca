// All inner kernels, written once and compiled for each instruction set. The including file has set, inside a namespace
// of its own: W (floats of a vector), FLOAT_ROWS and INT_ROWS (rows of a register tile), `halves` (W float16 -> vf is
// defined after vec.h's types, hence ISA_H), dot_q4 and dot_q8 (int8 products of one group of 32).

static inline float __attribute__((vector_size(4 * W))) halves(const uint8_t *p);
#include "vec.h"
#include ISA_H
#include "products.h"
#include "attention.h"

// Round a row to int8 in groups of 32, each with its own scale (as Q8_1 in GGML: d = max |x| / 127). A group with a NaN
// or an infinity has the scale NaN: what is made of it is NaN, not a sound number.
static void quantise(const float *x, int n, int8_t *q, float *scale, float *sum) {
    for (int g = 0; g < n / WW_GROUP; g++, x += WW_GROUP, q += WW_GROUP) {
        vf peak = {};
        for (int i = 0; i < WW_GROUP; i += W) {
            vf v = load(x + i);
            peak = max(peak, max(v, -v));
        }
        const float most = top(peak), by = most > 0 ? 127.0f / most : 0.0f;
        int count = 0;
        float fault = 0;  // 0, or NaN
        for (int i = 0; i < WW_GROUP; i++) {
            const int value = rounded(x[i] * by, -127, 127);
            q[i] = (int8_t)value;
            count += value;
            fault += x[i] * 0.0f;
        }
        scale[g] = most / 127.0f + fault;
        sum[g] = scale[g] * (float)count;
    }
}

static void rms_norm(const float *x, const float *weight, float eps, int n, float *out) {
    vf squares = {};
    int i = 0;
    for (; i + W <= n; i += W) {
        vf v = load(x + i);
        squares += v * v;
    }
    float sum = total(squares);
    for (; i < n; i++) sum += x[i] * x[i];
    const float by = 1.0f / __builtin_sqrtf(sum / (float)n + eps);
    for (i = 0; i < n; i++) out[i] = x[i] * by * weight[i];
}

static void swiglu(const float *gate, const float *up, int n, float *out) {
    int i = 0;
    for (; i + W <= n; i += W) {
        vf g = load(gate + i);
        store(out + i, g / (splat(1.0f) + exponential(-g)) * load(up + i));
    }
    for (; i < n; i++) out[i] = gate[i] / (1.0f + exponential(splat(-gate[i]))[0]) * up[i];
}

static void rope(float *x, const float *cos, const float *sin, int head_dim) {
    const int half = head_dim / 2;
    for (int i = 0; i < half; i++) {
        const float a = x[i], b = x[i + half];
        x[i] = a * cos[i] - b * sin[i];
        x[i + half] = b * cos[i] + a * sin[i];
    }
}

static const Kernels table = {ISA_NAME, panels, quantise, rms_norm, swiglu, rope, append, attend, row_of};
