// SPDX-License-Identifier: BSD-3-Clause
// Picks the kernels of this machine, once: see include/scaledot/dispatch.hpp.
#include <scaledot/detail/check.hpp>
#include <scaledot/detail/compiled.hpp>
#include <scaledot/detail/tile_permission.hpp>
#include <scaledot/dispatch.hpp>

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#if defined(SCALEDOT_X86_KERNELS)
#include <cpuid.h>
#endif

namespace scaledot {
namespace SCALEDOT_COMPILED {

// Defined by src/kernels/table.cpp, compiled once for each: SCALEDOT_KERNELS_<name> says which.
#if defined(SCALEDOT_X86_KERNELS)
extern const kernels sse2, avx2, avx512, avx512_bf16, avx512_amx;
#else
extern const kernels baseline;
#endif

namespace {

#if defined(SCALEDOT_X86_KERNELS)
/// Features that __builtin_cpu_supports does not know in every compiler, as bits of what leaf 7 says in edx.
constexpr unsigned amx_bf16 = 1U << 22, avx512_fp16 = 1U << 23, amx_tile = 1U << 24;

[[maybe_unused]] bool has(unsigned features)
{
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & features) == features;
}
#endif

/// avx512_bf16 and avx512_amx multiply bfloat16, which is nothing to softmax and norms: they have none of their own.
kernels completed(kernels picked)
{
#if defined(SCALEDOT_KERNELS_avx512)
    if (picked.softmax == nullptr) {
        picked.softmax = avx512.softmax;
        picked.norm = avx512.norm;
    }
#endif
    return picked;
}

/// What this machine and its operating system run, the fastest last.
std::vector<const kernels*> runnable_kernels()
{
#if defined(SCALEDOT_X86_KERNELS)
    std::vector<const kernels*> result{&sse2};
#if defined(SCALEDOT_KERNELS_avx2)
    __builtin_cpu_init();
    // Of x86-64-v3, processors with these have the rest, whose names __builtin_cpu_supports does not know everywhere.
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi") ||
        !__builtin_cpu_supports("bmi2")) {
        return result;
    }
    result.push_back(&avx2);
#endif
#if defined(SCALEDOT_KERNELS_avx512)
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl") ||
        !__builtin_cpu_supports("avx512cd")) {
        return result;
    }
    result.push_back(&avx512);
#endif
#if defined(SCALEDOT_KERNELS_avx512_bf16)
    if (__builtin_cpu_supports("avx512bf16")) {
        result.push_back(&avx512_bf16);
        if (has(avx512_fp16)) {
            std::swap(result.back(), result.end()[-2]); // such processors multiply pairs slowly: detail/config.hpp
        }
    }
#endif
#if defined(SCALEDOT_KERNELS_avx512_amx)
    if (__builtin_cpu_supports("avx512bf16") && has(amx_tile | amx_bf16) && detail::tiles_are_permitted()) {
        result.push_back(&avx512_amx);
    }
#endif
    return result;
#else
    return {&baseline};
#endif
}

const kernels& choose()
{
    const std::vector<const kernels*> runnable = runnable_kernels();
    const char* const wanted = std::getenv(architecture_variable);
    if (wanted == nullptr || *wanted == '\0') {
        return *runnable.back();
    }
    std::string names;
    for (const kernels* candidate : runnable) {
        if (std::string_view(candidate->architecture) == wanted) {
            return *candidate;
        }
        names += names.empty() ? "" : ", ";
        names += candidate->architecture;
    }
    detail::throw_error<std::runtime_error>("scaledot: the environment variable ", architecture_variable, " is \"",
                                            wanted, "\", must be one of those this machine runs: ", names);
}

} // namespace

const kernels& selected_kernels()
{
    static const kernels selected = completed(choose());
    return selected;
}

} // namespace SCALEDOT_COMPILED

std::string_view dispatched_architecture()
{
    return SCALEDOT_COMPILED::selected_kernels().architecture;
}

} // namespace scaledot
