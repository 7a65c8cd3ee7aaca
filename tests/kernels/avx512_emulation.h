// AVX-512 by SIMDe (Debian: libsimde-dev) on AVX2: what isa_avx512.cpp includes in a test, so that it runs anywhere.
#pragma once
#include <immintrin.h>
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512/setzero.h>  // first: the next ones use it
#include <simde/x86/avx512/cast.h>
#include <simde/x86/avx512/dpbusd.h>
#include <simde/x86/avx512/insert.h>
#include <simde/x86/avx512/loadu.h>
#include <simde/x86/avx512/set1.h>
#include <simde/x86/avx512/sub.h>
#include <simde/x86/avx512/xor.h>

// The one that SIMDe 0.7.4 lacks.
static inline simde__m512 emulated_cvtph_ps(__m256i halves) {
    const __m256 low = _mm256_cvtph_ps(_mm256_castsi256_si128(halves));
    const __m256 high = _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1));
    return simde_mm512_insertf32x8(simde_mm512_castps256_ps512(low), high, 1);
}
#undef _mm512_cvtph_ps
#define _mm512_cvtph_ps(halves) emulated_cvtph_ps(halves)
