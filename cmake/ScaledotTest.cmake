# SPDX-License-Identifier: BSD-3-Clause
# scaledot_test(<file> [ARCHITECTURES sse2 avx2 ...] [FAST_MATH]): one doctest file as one or more programs, each one ctest.
#
#   softmax_test.cpp                               softmax_test, with the flags of the build
#   softmax_test.cpp ARCHITECTURES sse2 avx512     softmax_test.sse2, softmax_test.avx512, where asked for and runnable
#   softmax_test.cpp ... FAST_MATH                 and softmax_test.fast_math, compiled and linked like a careless project
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
    cmake_parse_arguments(PARSE_ARGV 1 arg "FAST_MATH" "" "ARCHITECTURES")
    cmake_path(GET file STEM name)

    file(STRINGS ${file} mpfr_includes REGEX "^#include .*mpfr")
    if(mpfr_includes AND NOT TARGET scaledot_mpfr)
        message(STATUS "scaledot: ${name} is skipped, it needs MPFR (libmpfr-dev)")
        return()
    endif()

    set(built FALSE)
    foreach(architecture IN LISTS arg_ARCHITECTURES)
        if(architecture IN_LIST SCALEDOT_TEST_ARCHITECTURES AND SCALEDOT_RUNS_${architecture})
            scaledot_add_test_program(${name}.${architecture} ${file} ${SCALEDOT_FLAGS_${architecture}})
            set(built TRUE)
        endif()
    endforeach()
    if(NOT built)
        scaledot_add_test_program(${name} ${file})
    endif()
    if(arg_FAST_MATH AND SCALEDOT_TEST_BUILDS)
        scaledot_add_test_program(${name}.fast_math ${file} -march=native -ffast-math)
    endif()
endfunction()
