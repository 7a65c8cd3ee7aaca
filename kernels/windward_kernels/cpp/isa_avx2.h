// AVX2, FMA, F16C: u8 x s8 products by vpmaddubsw.

static inline vf halves(const uint8_t *p) { return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }

static inline void sixteen_halves(const float *from, uint16_t *to) {  // rounded to nearest even
    for (int i = 0; i < 16; i += 8)
        _mm_storeu_si128((__m128i *)(to + i), _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
}

static inline __m256i four(const int8_t *q) {  // four columns of a row, to every lane
    int32_t bits;
    __builtin_memcpy(&bits, q, 4);
    return _mm256_set1_epi32(bits);
}

// Keeps a running sum running. Left alone, GCC 12 computes all products of a group before it adds the first; there are
// sixteen registers, so they go to memory. On Zen 3, 16 rows: 22 multiply-adds a cycle, with this 31. The products alone
// reach 38 (two multipliers could do 64, but additions take their pipes: of both together three a cycle start, not four);
// scales and minima cost the rest. At 16 rows nothing was gained by tiles of 3, 5 or 6 rows, by unpacking codes once for
// all rows, by scaling in a second pass, or for Q8 by products of 16 bits; with 120 rows, codes unpacked once reach 34.
static inline void settled(__m256i &sum) { asm("" : "+x"(sum)); }

// The codes of four columns, of rows 0-7 and of rows 8-15: as they are packed, or spread to a byte each by `spread_q4`.
static inline void packed_four(const uint8_t *w, int j, __m256i &a, __m256i &b) {
    const __m256i mask = _mm256_set1_epi8(15), pairs = _mm256_loadu_si256((const __m256i *)(w + j * 32));
    a = _mm256_and_si256(pairs, mask);
    b = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), mask);
}
static inline void wide_four(const uint8_t *w, int j, __m256i &a, __m256i &b) {
    a = _mm256_loadu_si256((const __m256i *)(w + j * 64));
    b = _mm256_loadu_si256((const __m256i *)(w + j * 64 + 32));
}
static inline void spread_q4(const uint8_t *w, uint8_t *into) {
    for (int j = 0; j < 8; j++) {
        __m256i a, b;
        packed_four(w, j, a, b);
        _mm256_storeu_si256((__m256i *)(into + j * 64), a);
        _mm256_storeu_si256((__m256i *)(into + j * 64 + 32), b);
    }
}

// A nibble is at most 15 and an activation at most 127, so eight sums of two products stay below 2^15:
// 8 * 2 * 15 * 127 = 30480. One widening per group is enough.
template <int MR, void (*FOUR)(const uint8_t *, int, __m256i &, __m256i &)>
static inline void dot_codes(const uint8_t *w, const int8_t *q, int ld, vi (&dots)[MR][NV]) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i low[MR], high[MR];
#pragma GCC unroll 16
    for (int m = 0; m < MR; m++) low[m] = high[m] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        __m256i a, b;
        FOUR(w, j, a, b);
#pragma GCC unroll 16
        for (int m = 0; m < MR; m++) {
            const __m256i x = four(q + (int64_t)m * ld + j * 4);
            low[m] = _mm256_add_epi16(low[m], _mm256_maddubs_epi16(a, x));
            high[m] = _mm256_add_epi16(high[m], _mm256_maddubs_epi16(b, x));
            settled(low[m]);
            settled(high[m]);
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < MR; m++) {
        dots[m][0] = (vi)_mm256_madd_epi16(low[m], ones);
        dots[m][1] = (vi)_mm256_madd_epi16(high[m], ones);
    }
}
template <int MR>
static inline void dot_q4(const uint8_t *w, const int8_t *q, int ld, vi (&dots)[MR][NV]) {
    dot_codes<MR, packed_four>(w, q, ld, dots);
}
template <int MR>
static inline void dot_wide(const uint8_t *w, const int8_t *q, int ld, vi (&dots)[MR][NV]) {
    dot_codes<MR, wide_four>(w, q, ld, dots);
}

// |w| x sign(a, w): two products of 127 x 127 fit 16 bits, four do not, so each is widened at once.
template <int MR>
static inline void dot_q8(const uint8_t *w, const int8_t *q, int ld, vi (&dots)[MR][NV]) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sums[MR][2];
#pragma GCC unroll 16
    for (int m = 0; m < MR; m++) sums[m][0] = sums[m][1] = _mm256_setzero_si256();
    for (int j = 0; j < 8; j++) {
        const __m256i a = _mm256_loadu_si256((const __m256i *)(w + j * 64));
        const __m256i b = _mm256_loadu_si256((const __m256i *)(w + j * 64 + 32));
        const __m256i size_a = _mm256_abs_epi8(a), size_b = _mm256_abs_epi8(b);
#pragma GCC unroll 16
        for (int m = 0; m < MR; m++) {
            const __m256i x = four(q + (int64_t)m * ld + j * 4);
            const __m256i p = _mm256_maddubs_epi16(size_a, _mm256_sign_epi8(x, a));
            const __m256i r = _mm256_maddubs_epi16(size_b, _mm256_sign_epi8(x, b));
            sums[m][0] = _mm256_add_epi32(sums[m][0], _mm256_madd_epi16(p, ones));
            sums[m][1] = _mm256_add_epi32(sums[m][1], _mm256_madd_epi16(r, ones));
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < MR; m++)
        for (int v = 0; v < 2; v++) dots[m][v] = (vi)sums[m][v];
}
