// A vector of W floats in GCC's own vector types: one text for every instruction set. Included inside body.h.

typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));
typedef uint16_t vh __attribute__((vector_size(2 * W)));
typedef int8_t vb __attribute__((vector_size(W)));
enum { NV = WW_PANEL / W };

static inline vf splat(float x) { return x - (vf){}; }
template <class V, class P>
static inline V load_as(const P *p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
static inline vf load(const float *p) { return load_as<vf>(p); }
static inline void store(float *p, vf v) { __builtin_memcpy(p, &v, sizeof v); }
static inline vf max(vf a, vf b) { return a > b ? a : b; }
static inline float top(vf v) {
    float best = v[0];
    for (int i = 1; i < W; i++) best = v[i] > best ? v[i] : best;
    return best;
}
static inline float total(vf v) {
    float sum = 0;
    for (int i = 0; i < W; i++) sum += v[i];
    return sum;
}

static inline float half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 1023, bits;
    if (exponent == 31) {
        bits = sign | 0x7f800000u | mantissa << 13;
    } else if (exponent) {
        bits = sign | (exponent + 112) << 23 | mantissa << 13;
    } else {
        float small = (float)mantissa * 5.9604644775390625e-8f;  // 2^-24
        __builtin_memcpy(&bits, &small, 4);
        bits |= sign;
    }
    float f;
    __builtin_memcpy(&f, &bits, 4);
    return f;
}

static inline uint16_t float_to_half(float f) {  // round to nearest even; beyond the range: infinity
    uint32_t bits;
    __builtin_memcpy(&bits, &f, 4);
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00);
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000u) {  // subnormal: let the adder of float32 round at 2^-24
        float value;
        __builtin_memcpy(&value, &magnitude, 4);
        value += 0.5f;
        uint32_t rounded;
        __builtin_memcpy(&rounded, &value, 4);
        return (uint16_t)(sign | (rounded - 0x3f000000u));
    }
    magnitude += 0xc8000fffu + (magnitude >> 13 & 1);
    return (uint16_t)(sign | magnitude >> 13);
}

// e^x to about 2 units in the last place: x = n ln 2 + r, |r| <= ln 2 / 2, a Taylor polynomial in r (degree 7: 5e-9).
// To the nearest integer, within [low, high]; low for NaN, of which C's conversion may make anything.
static inline int rounded(float x, int low, int high) {
    x = __builtin_rintf(x);
    return x >= (float)high ? high : x > (float)low ? (int)x : low;
}

static inline vf exponential(vf x) {
    x = x < splat(-87.0f) ? splat(-87.0f) : x;
    x = x > splat(88.0f) ? splat(88.0f) : x;
    vf shifted = x * splat(1.44269504088896341f) + splat(12582912.0f);  // 1.5 * 2^23 rounds to an integer
    vf n = shifted - splat(12582912.0f);
    vf r = x - n * splat(0.693359375f) + n * splat(2.12194440e-4f);
    vf p = splat(1.9841270e-4f);
    p = p * r + splat(1.3888889e-3f);
    p = p * r + splat(8.3333333e-3f);
    p = p * r + splat(4.1666667e-2f);
    p = p * r + splat(1.6666667e-1f);
    p = p * r + splat(0.5f);
    p = p * r + splat(1.0f);
    p = p * r + splat(1.0f);
    vi power = (__builtin_convertvector(n, vi) + 127) << 23;
    vf scale;
    __builtin_memcpy(&scale, &power, sizeof scale);
    return p * scale;
}

struct LoadF32 {
    enum { BYTES = 4 };
    static inline vf at(const uint8_t *p) { return load_as<vf>(p); }
};
struct LoadF16 {
    enum { BYTES = 2 };
    static inline vf at(const uint8_t *p) { return halves(p); }  // from the instruction set's own file
};
struct LoadBF16 {
    enum { BYTES = 2 };
    static inline vf at(const uint8_t *p) {
        vu wide = __builtin_convertvector(load_as<vh>(p), vu) << 16;
        vf v;
        __builtin_memcpy(&v, &wide, sizeof v);
        return v;
    }
};
static inline vf bytes_to_float(const int8_t *p) { return __builtin_convertvector(load_as<vb>(p), vf); }
