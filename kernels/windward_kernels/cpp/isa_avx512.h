// AVX-512 with VNNI: u8 x s8 products of four columns in one vpdpbusd.

static inline vf halves(const uint8_t *p) { return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }

static inline void sixteen_halves(const float *from, uint16_t *to) {  // rounded to nearest even
    for (int i = 0; i < 16; i += 8)
        _mm_storeu_si128((__m128i *)(to + i), _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
}

static inline __m512i four(const int8_t *q) {  // four columns of a row, to every lane
    int32_t bits;
    __builtin_memcpy(&bits, q, 4);
    return _mm512_set1_epi32(bits);
}

template <int MR>
static inline void dot_q4(const uint8_t *w, const int8_t *q, int ld, vi (&dots)[MR][NV]) {
    const __m256i mask = _mm256_set1_epi8(15);
    __m512i sums[MR];
#pragma GCC unroll 16
    for (int m = 0; m < MR; m++) sums[m] = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        const __m256i pairs = _mm256_loadu_si256((const __m256i *)(w + j * 32));
        const __m256i low = _mm256_and_si256(pairs, mask), high = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), mask);
        const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
#pragma GCC unroll 16
        for (int m = 0; m < MR; m++) sums[m] = _mm512_dpbusd_epi32(sums[m], both, four(q + (int64_t)m * ld + j * 4));
    }
#pragma GCC unroll 16
    for (int m = 0; m < MR; m++) dots[m][0] = (vi)sums[m];
}

// w + 128 is unsigned; what that adds, 128 times the sum of the activations, is taken off again in the same units.
template <int MR>
static inline void dot_q8(const uint8_t *w, const int8_t *q, int ld, vi (&dots)[MR][NV]) {
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    __m512i sums[MR], excess[MR];
#pragma GCC unroll 16
    for (int m = 0; m < MR; m++) sums[m] = excess[m] = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        const __m512i shifted = _mm512_xor_si512(_mm512_loadu_si512(w + j * 64), flip);
#pragma GCC unroll 16
        for (int m = 0; m < MR; m++) {
            const __m512i x = four(q + (int64_t)m * ld + j * 4);
            sums[m] = _mm512_dpbusd_epi32(sums[m], shifted, x);
            excess[m] = _mm512_dpbusd_epi32(excess[m], flip, x);
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < MR; m++) dots[m][0] = (vi)_mm512_sub_epi32(sums[m], excess[m]);
}
