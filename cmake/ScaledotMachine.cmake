# SPDX-License-Identifier: BSD-3-Clause
# Which of the ways tests are built this machine can run.
include_guard()
include(${CMAKE_CURRENT_LIST_DIR}/ScaledotArchitectures.cmake)

# SCALEDOT_RUNS_<architecture> says whether a program that uses the set ends well here.
# The condition is C++ after the includes that may follow it.
function(scaledot_check_architecture architecture condition)
    if(DEFINED SCALEDOT_RUNS_${architecture})
        return()
    endif()
    set(source ${CMAKE_CURRENT_BINARY_DIR}/runs_${architecture}.cpp)
    file(WRITE ${source} "${ARGN}\nint main() { return (${condition}) ? 0 : 1; }\n")
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

if("baseline" IN_LIST SCALEDOT_DISPATCHED)
    set(SCALEDOT_RUNS_baseline TRUE)
else()
    # f16c has no name of its own for __builtin_cpu_supports in every compiler; every processor with AVX2 has it.
    scaledot_says_cpu(condition sse2)
    scaledot_check_architecture(sse2 "${condition}")
    scaledot_says_cpu(condition avx2 fma bmi bmi2)
    scaledot_check_architecture(avx2 "${condition}")
    scaledot_says_cpu(condition avx2 fma bmi bmi2 avx512f avx512bw avx512dq avx512vl avx512cd)
    scaledot_check_architecture(avx512 "${condition}")
    scaledot_says_cpu(condition avx2 fma bmi bmi2 avx512f avx512bw avx512dq avx512vl avx512cd avx512bf16)
    scaledot_check_architecture(avx512_bf16 "${condition}")
    # detail/tile_permission.hpp
    scaledot_check_architecture(avx512_amx "${condition} && syscall(SYS_arch_prctl, 0x1023, 18) == 0"
        "#include <sys/syscall.h>\n#include <unistd.h>")
endif()
set(SCALEDOT_RUNS_native TRUE)
set(SCALEDOT_RUNS_fast_math TRUE)
