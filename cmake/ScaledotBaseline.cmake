# SPDX-License-Identifier: BSD-3-Clause
# One status line for projects whose flags leave scaledot's headers at the x86-64 baseline.
include_guard(GLOBAL)
include(CheckCXXSourceCompiles)

function(scaledot_say_what_the_baseline_misses)
    if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
        return()
    endif()
    set(CMAKE_REQUIRED_QUIET TRUE)
    check_cxx_source_compiles("
        #if !defined(__AVX2__)
        #error \"SSE2\"
        #endif
        int main() {}" SCALEDOT_WIDER_THAN_BASELINE)
    if(NOT SCALEDOT_WIDER_THAN_BASELINE)
        message(STATUS "scaledot: compiled for SSE2 here, several times slower than most machines can be, but for what "
            "links scaledot::dispatch: link that, or compile with -march=native")
    endif()
endfunction()
