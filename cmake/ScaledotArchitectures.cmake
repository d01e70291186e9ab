# SPDX-License-Identifier: BSD-3-Clause
# The ways tests are built, mostly instruction sets, and which of them this machine can run.
include_guard()

set(SCALEDOT_TEST_VARIANTS sse2 avx2 avx512 native fast_math dispatched CACHE STRING
    "Which variants of the tests that have any are built, each where the machine can run it; empty: the flags of the build")

# Options come after the build's own flags, so an instruction set starts from the baseline whatever those say.
set(SCALEDOT_FLAGS_sse2 -march=x86-64)
set(SCALEDOT_FLAGS_avx2 -march=x86-64-v3)
set(SCALEDOT_FLAGS_avx512 -march=x86-64-v4)
set(SCALEDOT_FLAGS_avx512_bf16 ${SCALEDOT_FLAGS_avx512} -mavx512bf16)
set(SCALEDOT_FLAGS_native -march=native)
# Compiled and linked like a careless project.
set(SCALEDOT_FLAGS_fast_math -march=native -ffast-math)

# SCALEDOT_RUNS_<architecture> says whether a program that uses the set ends well here.
function(scaledot_check_architecture architecture condition)
    if(DEFINED SCALEDOT_RUNS_${architecture})
        return()
    endif()
    set(source ${CMAKE_CURRENT_BINARY_DIR}/runs_${architecture}.cpp)
    file(WRITE ${source} "int main() { return (${condition}) ? 0 : 1; }\n")
    try_run(exit_code compiled ${CMAKE_CURRENT_BINARY_DIR}/runs_${architecture} ${source}
        COMPILE_DEFINITIONS ${SCALEDOT_FLAGS_sse2})
    set(runs FALSE)
    if(compiled AND exit_code EQUAL 0)
        set(runs TRUE)
    endif()
    message(STATUS "scaledot: tests for ${architecture}: ${runs}")
    set(SCALEDOT_RUNS_${architecture} ${runs} CACHE INTERNAL "")
endfunction()

function(scaledot_says_cpu variable)
    set(condition 1)
    foreach(feature IN LISTS ARGN)
        string(APPEND condition " && __builtin_cpu_supports(\"${feature}\")")
    endforeach()
    set(${variable} "${condition}" PARENT_SCOPE)
endfunction()

# SCALEDOT_DISPATCHED is what the kernels of scaledot::dispatch choose from.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    set(SCALEDOT_DISPATCHED sse2 avx2 avx512 avx512_bf16)

    # f16c has no name of its own for __builtin_cpu_supports in every compiler; every processor with AVX2 has it.
    scaledot_says_cpu(condition sse2)
    scaledot_check_architecture(sse2 "${condition}")
    scaledot_says_cpu(condition avx2 fma bmi bmi2)
    scaledot_check_architecture(avx2 "${condition}")
    scaledot_says_cpu(condition avx2 fma bmi bmi2 avx512f avx512bw avx512dq avx512vl avx512cd)
    scaledot_check_architecture(avx512 "${condition}")
    scaledot_says_cpu(condition avx2 fma bmi bmi2 avx512f avx512bw avx512dq avx512vl avx512cd avx512bf16)
    scaledot_check_architecture(avx512_bf16 "${condition}")
else()
    set(SCALEDOT_DISPATCHED baseline)
    set(SCALEDOT_RUNS_baseline TRUE)
endif()
set(SCALEDOT_RUNS_native TRUE)
set(SCALEDOT_RUNS_fast_math TRUE)
