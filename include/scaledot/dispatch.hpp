// SPDX-License-Identifier: BSD-3-Clause
// scaledot::dispatch: the library's kernels compiled for each instruction set, picked when the program runs. Nothing of
// this header is needed to use them: a program that links the target calls them through the same functions.
#ifndef SCALEDOT_DISPATCH_HPP
#define SCALEDOT_DISPATCH_HPP

#include <string_view>

// Types common to all builds, so in no namespace of a build: detail/config.hpp.
namespace scaledot {

/// The environment variable that names the instruction set to use, for tests and measurements: sse2, avx2, avx512,
/// avx512_bf16, avx512_amx, or baseline where there is one build only.
inline constexpr const char* architecture_variable = "SCALEDOT_ARCHITECTURE";

/// The instruction set whose kernels this program uses: the fastest that its machine and operating system run, or that
/// which architecture_variable named at the first call of any function of scaledot that computes. Only in programs that
/// link scaledot::dispatch.
/// @throws std::runtime_error  the variable names none that this machine runs; so does every function that computes
std::string_view dispatched_architecture();

} // namespace scaledot

#endif
