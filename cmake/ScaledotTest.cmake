# SPDX-License-Identifier: BSD-3-Clause
# scaledot_test(<file> [variant...]): one doctest file as one or more programs, each one ctest.
#
#   zone_test.cpp                    zone_test, with the flags of the build
#   softmax_test.cpp sse2 avx512     softmax_test.sse2 and softmax_test.avx512, those asked for that run here;
#                                    softmax_test, with the flags of the build, where none of the instruction sets is
include_guard()
include(${CMAKE_CURRENT_LIST_DIR}/ScaledotArchitectures.cmake)

find_path(SCALEDOT_MPFR_INCLUDE_DIR mpfr.h)
find_library(SCALEDOT_MPFR_LIBRARY mpfr)
mark_as_advanced(SCALEDOT_MPFR_INCLUDE_DIR SCALEDOT_MPFR_LIBRARY)
if(SCALEDOT_MPFR_INCLUDE_DIR AND SCALEDOT_MPFR_LIBRARY)
    add_library(scaledot_mpfr INTERFACE)
    target_include_directories(scaledot_mpfr SYSTEM INTERFACE ${SCALEDOT_MPFR_INCLUDE_DIR})
    target_link_libraries(scaledot_mpfr INTERFACE ${SCALEDOT_MPFR_LIBRARY})
endif()

function(scaledot_add_test_program name file)
    add_executable(${name} ${file})
    target_include_directories(${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
    target_link_libraries(${name} PRIVATE doctest_main $<TARGET_NAME_IF_EXISTS:scaledot_mpfr>)
    target_compile_options(${name} PRIVATE ${ARGN})
    target_link_options(${name} PRIVATE ${ARGN})
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES TIMEOUT 600)
endfunction()

function(scaledot_test file)
    cmake_path(GET file STEM name)

    file(STRINGS ${file} mpfr_includes REGEX "^#include .*mpfr")
    if(mpfr_includes AND NOT TARGET scaledot_mpfr)
        message(STATUS "scaledot: ${name} is skipped, it needs MPFR (libmpfr-dev)")
        return()
    endif()

    set(built FALSE)
    foreach(variant IN LISTS ARGN)
        if(variant IN_LIST SCALEDOT_TEST_VARIANTS AND SCALEDOT_RUNS_${variant})
            scaledot_add_test_program(${name}.${variant} ${file} ${SCALEDOT_FLAGS_${variant}})
            if(NOT variant STREQUAL "fast_math")
                set(built TRUE)
            endif()
        endif()
    endforeach()
    if(NOT built)
        scaledot_add_test_program(${name} ${file})
    endif()
endfunction()
