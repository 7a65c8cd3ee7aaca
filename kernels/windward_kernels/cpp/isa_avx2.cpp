// The kernels for x86-64 with AVX2, FMA and F16C.
#include "kernels.h"
#if defined(__x86_64__) && defined(__GNUC__) && !defined(WW_SKIP_AVX2)
#pragma GCC target("avx2,fma,f16c")
#include <immintrin.h>
#include <stdlib.h>

namespace {
enum { W = 8, FLOAT_ROWS = 6, INT_ROWS = 4, MANY_ROWS = 40 };
#define WIDE_ROWS 5
#define ISA_NAME "avx2"
#define ISA_H "isa_avx2.h"
#include "body.h"
}  // namespace

const Kernels *kernels_avx2() {
    const bool here =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    return here ? &table : nullptr;
}
#else
const Kernels *kernels_avx2() { return nullptr; }
#endif
