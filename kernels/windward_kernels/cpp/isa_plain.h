// Portable: what any C++ compiler makes of plain loops.

static inline float half_to_float(uint16_t h);
static inline uint16_t float_to_half(float f);
static inline vf halves(const uint8_t *p) {
    vh bits = load_as<vh>(p);
    vf v;
    for (int i = 0; i < W; i++) v[i] = half_to_float(bits[i]);
    return v;
}

static inline void sixteen_halves(const float *from, uint16_t *to) {
    for (int i = 0; i < 16; i++) to[i] = float_to_half(from[i]);
}

template <int MR>
static inline void dot_q4(const uint8_t *w, const int8_t *q, int ld, vi (&dots)[MR][NV]) {
    int32_t sums[MR][WW_PANEL] = {};
    for (int j = 0; j < 8; j++)
        for (int m = 0; m < MR; m++)
            for (int r = 0; r < 8; r++)
                for (int i = 0; i < 4; i++) {
                    const int pair = w[j * 32 + r * 4 + i], a = q[(int64_t)m * ld + j * 4 + i];
                    sums[m][r] += (pair & 15) * a;
                    sums[m][r + 8] += (pair >> 4) * a;
                }
    __builtin_memcpy(dots, sums, sizeof sums);
}

template <int MR>
static inline void dot_q8(const uint8_t *w, const int8_t *q, int ld, vi (&dots)[MR][NV]) {
    int32_t sums[MR][WW_PANEL] = {};
    for (int j = 0; j < 8; j++)
        for (int m = 0; m < MR; m++)
            for (int r = 0; r < WW_PANEL; r++)
                for (int i = 0; i < 4; i++)
                    sums[m][r] += (int8_t)w[j * 64 + r * 4 + i] * q[(int64_t)m * ld + j * 4 + i];
    __builtin_memcpy(dots, sums, sizeof sums);
}
