// SPDX-License-Identifier: BSD-3-Clause
// The inline namespace every name of scaledot lives in. It spells how the translation unit is compiled (instruction
// sets, OpenMP, fast-math, exceptions, whether scaledot::dispatch has its kernels), so that units built differently
// never share a symbol: the linker cannot hand an AVX-512 body to a caller that was built for SSE2. See
// docs/decisions/0001-one-namespace-per-build.md.
#ifndef SCALEDOT_DETAIL_CONFIG_HPP
#define SCALEDOT_DETAIL_CONFIG_HPP

#if __cplusplus < 202002L
#error "scaledot needs C++20 (-std=c++20)"
#endif
#if defined(__i386__) && !defined(__SSE2_MATH__) // the x87 unit rounds twice
#error "scaledot needs -msse2 -mfpmath=sse on 32-bit x86"
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512CD__)
#define SCALEDOT_TOKEN_VECTOR _avx512
#elif defined(__AVX2__)
#define SCALEDOT_TOKEN_VECTOR _avx2
#elif defined(__AVX__)
#define SCALEDOT_TOKEN_VECTOR _avx
#elif defined(__SSE4_2__)
#define SCALEDOT_TOKEN_VECTOR _sse42
#elif defined(__SSE4_1__)
#define SCALEDOT_TOKEN_VECTOR _sse41
#elif defined(__SSSE3__)
#define SCALEDOT_TOKEN_VECTOR _ssse3
#elif defined(__SSE3__)
#define SCALEDOT_TOKEN_VECTOR _sse3
#elif defined(__SSE2__)
#define SCALEDOT_TOKEN_VECTOR _sse2
#elif defined(__ARM_NEON)
#define SCALEDOT_TOKEN_VECTOR _neon
#else
#define SCALEDOT_TOKEN_VECTOR _generic
#endif

#if defined(__FMA__)
#define SCALEDOT_TOKEN_FMA _fma
#else
#define SCALEDOT_TOKEN_FMA
#endif
#if defined(__F16C__)
#define SCALEDOT_TOKEN_F16C _f16c
#else
#define SCALEDOT_TOKEN_F16C
#endif
#if defined(__BMI2__)
#define SCALEDOT_TOKEN_BMI _bmi
#else
#define SCALEDOT_TOKEN_BMI
#endif
#if defined(__AVX512VL__)
#define SCALEDOT_TOKEN_VL _vl
#else
#define SCALEDOT_TOKEN_VL
#endif
// Processors with AVX512-FP16, AMX's among them, take four times as long for the product of two vectors of pairs of
// bfloat16 as for a multiply-add on floats: there bfloat16 is widened.
#if defined(__AVX512BF16__) && !defined(__AVX512FP16__) && !defined(__AMX_BF16__)
#define SCALEDOT_MULTIPLIES_PAIRS
#define SCALEDOT_TOKEN_BF16 _bf16
#else
#define SCALEDOT_TOKEN_BF16
#endif
// Products of whole tiles of bfloat16, where the system permits them: kernel/tiles.hpp.
#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)
#define SCALEDOT_MULTIPLIES_TILES
#define SCALEDOT_TOKEN_TILES _tiles
#else
#define SCALEDOT_TOKEN_TILES
#endif
#if defined(_OPENMP)
#define SCALEDOT_TOKEN_OPENMP _openmp
#else
#define SCALEDOT_TOKEN_OPENMP
#endif
#if defined(__FAST_MATH__)
#define SCALEDOT_TOKEN_MATH _fast
#else
#define SCALEDOT_TOKEN_MATH
#endif
#if defined(__cpp_exceptions)
#define SCALEDOT_TOKEN_EXCEPTIONS
#else
#define SCALEDOT_TOKEN_EXCEPTIONS _noexcept
#endif
#if defined(SCALEDOT_DISPATCH)
#define SCALEDOT_TOKEN_DISPATCH _dispatch
#else
#define SCALEDOT_TOKEN_DISPATCH
#endif

#define SCALEDOT_JOIN_EXPANDED(a, b, c, d, e, f, g, h, i, j, k, l) a##b##c##d##e##f##g##h##i##j##k##l
#define SCALEDOT_JOIN(a, b, c, d, e, f, g, h, i, j, k, l) SCALEDOT_JOIN_EXPANDED(a, b, c, d, e, f, g, h, i, j, k, l)
/// The namespace of this build: `namespace scaledot::inline SCALEDOT_BUILD { ... }` encloses every header.
#define SCALEDOT_BUILD                                                                                                 \
    SCALEDOT_JOIN(v0, SCALEDOT_TOKEN_VECTOR, SCALEDOT_TOKEN_FMA, SCALEDOT_TOKEN_F16C, SCALEDOT_TOKEN_BMI,              \
                  SCALEDOT_TOKEN_VL, SCALEDOT_TOKEN_BF16, SCALEDOT_TOKEN_TILES, SCALEDOT_TOKEN_OPENMP,                 \
                  SCALEDOT_TOKEN_MATH, SCALEDOT_TOKEN_EXCEPTIONS, SCALEDOT_TOKEN_DISPATCH)

#endif
