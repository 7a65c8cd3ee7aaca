// The kernels for x86-64 with AVX-512 and VNNI.
#include "kernels.h"
#if defined(__x86_64__) && defined(__GNUC__) && !defined(WW_SKIP_AVX512)
#ifdef WW_EMULATION  // a header that defines the intrinsics in lesser ones: tests run these kernels on any x86-64
#include WW_EMULATION
#else
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,prefer-vector-width=512")
#include <immintrin.h>
#endif

namespace {
enum { W = 16, FLOAT_ROWS = 12, INT_ROWS = 8 };
#define ISA_NAME "avx512-vnni"
#define ISA_H "isa_avx512.h"
#include "body.h"
}  // namespace

const Kernels *kernels_avx512() {
#ifdef WW_EMULATION
    return &table;
#endif
    const bool here = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("f16c");
    return here ? &table : nullptr;
}
#else
const Kernels *kernels_avx512() { return nullptr; }
#endif
