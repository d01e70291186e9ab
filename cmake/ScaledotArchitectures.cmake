# SPDX-License-Identifier: BSD-3-Clause
# The instruction sets there are kernels and tests for, and how each is compiled.
include_guard()

# Options come after the build's own flags, so an instruction set starts from the baseline whatever those say.
set(SCALEDOT_FLAGS_sse2 -march=x86-64)
set(SCALEDOT_FLAGS_avx2 -march=x86-64-v3)
set(SCALEDOT_FLAGS_avx512 -march=x86-64-v4)
set(SCALEDOT_FLAGS_avx512_bf16 ${SCALEDOT_FLAGS_avx512} -mavx512bf16)
set(SCALEDOT_FLAGS_avx512_amx ${SCALEDOT_FLAGS_avx512_bf16} -mamx-tile -mamx-bf16)
set(SCALEDOT_FLAGS_native -march=native)
# Compiled and linked like a careless project.
set(SCALEDOT_FLAGS_fast_math -march=native -ffast-math)

# What the kernels of scaledot::dispatch choose from.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    set(SCALEDOT_DISPATCHED sse2 avx2 avx512 avx512_bf16 avx512_amx)
else()
    set(SCALEDOT_DISPATCHED baseline)
endif()
