# SPDX-License-Identifier: BSD-3-Clause
# scaledot_test(<file> [variant...]): one doctest file as one or more programs, each one ctest.
#
#   zone_test.cpp                    zone_test, with the flags of the build
#   softmax_test.cpp sse2 avx512     softmax_test.sse2 and softmax_test.avx512, those asked for that run here;
#                                    softmax_test, with the flags of the build, where none of the instruction sets is
#   merge_test.cpp dispatched        merge_test.dispatched, with scaledot::dispatch, on the machine's widest
#   merge_test.cpp dispatched each   the same program, as merge_test.dispatched.<instruction set> on each of the machine's
include_guard()
include(${CMAKE_CURRENT_LIST_DIR}/ScaledotMachine.cmake)

set(SCALEDOT_TEST_VARIANTS sse2 avx2 avx512 native fast_math dispatched CACHE STRING
    "Which variants of the tests that have any are built, each where the machine can run it; empty: the flags of the build")

find_path(SCALEDOT_MPFR_INCLUDE_DIR mpfr.h)
find_library(SCALEDOT_MPFR_LIBRARY mpfr)
mark_as_advanced(SCALEDOT_MPFR_INCLUDE_DIR SCALEDOT_MPFR_LIBRARY)
if(SCALEDOT_MPFR_INCLUDE_DIR AND SCALEDOT_MPFR_LIBRARY)
    add_library(scaledot_mpfr INTERFACE)
    target_include_directories(scaledot_mpfr SYSTEM INTERFACE ${SCALEDOT_MPFR_INCLUDE_DIR})
    target_link_libraries(scaledot_mpfr INTERFACE ${SCALEDOT_MPFR_LIBRARY})
endif()

# Attention takes longer to compile than the tests that call it, so those built with the same flags share it:
# tests/support/attention_instances.hpp.
set(SCALEDOT_ATTENTION_TESTS "^(attention.*|conformance|diagnostics|kv_cache|merge|scores|split_heads)_test$")
# Most tests run for less long than they would be optimised, four do not. Those of kernels are about what the
# optimiser makes of them, but the one, which is about what becomes of them without it.
set(SCALEDOT_OPTIMISED_TESTS "^(kernel_.*|attention|attention_options|softmax|softmax_driver)_test$")
set(SCALEDOT_UNOPTIMISED_KERNEL_TESTS "^kernel_step_test$")

function(scaledot_share_attention name)
    string(MAKE_C_IDENTIFIER "attention_instances${ARGN}" instances)
    if(NOT TARGET ${instances})
        add_library(${instances} OBJECT support/attention_instances.cpp)
        target_link_libraries(${instances} PRIVATE scaledot_dev)
        target_compile_options(${instances} PRIVATE ${ARGN})
    endif()
    target_link_libraries(${name} PRIVATE ${instances})
    target_compile_options(${name} PRIVATE
        "SHELL:-include ${CMAKE_CURRENT_SOURCE_DIR}/support/attention_instances.hpp")
endfunction()

# Programs of one build that are compiled with the same options, and link the same of our libraries, share a precompiled
# header.
function(scaledot_precompile name library)
    string(MAKE_C_IDENTIFIER "precompiled_${library}${ARGN}" headers)
    if(NOT TARGET ${headers})
        add_library(${headers} OBJECT support/precompiled.cpp)
        target_include_directories(${headers} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
        target_link_libraries(${headers} PRIVATE doctest_main ${library} $<TARGET_NAME_IF_EXISTS:scaledot_mpfr>)
        target_compile_options(${headers} PRIVATE ${ARGN})
        target_precompile_headers(${headers} PRIVATE support/precompiled.hpp)
    endif()
    target_precompile_headers(${name} REUSE_FROM ${headers})
    # Of g++'s own AVX-512 intrinsics: the pragmas that silence it do not get into a precompiled header.
    target_compile_options(${name} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
endfunction()

function(scaledot_add_program name file)
    add_executable(${name} ${file})
    target_include_directories(${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
    target_link_libraries(${name} PRIVATE doctest_main $<TARGET_NAME_IF_EXISTS:scaledot_mpfr>)
endfunction()

# Those that take longest begin first, so that none of them is the last to end.
set(SCALEDOT_LONG_TESTS "^(attention|attention_options|kernel_weights|layer_norm|rms_norm|softmax)_test")
set(SCALEDOT_TEST_CASES "" CACHE STRING "Which cases of a test to run: doctest's patterns, separated by commas; empty: all")

function(scaledot_add_program_test name program)
    set(arguments)
    if(SCALEDOT_TEST_CASES)
        set(arguments --test-case=${SCALEDOT_TEST_CASES})
    endif()
    add_test(NAME ${name} COMMAND ${program} ${arguments})
    set_tests_properties(${name} PROPERTIES TIMEOUT 600)
    if(name MATCHES "${SCALEDOT_LONG_TESTS}")
        set_tests_properties(${name} PROPERTIES COST 100)
    endif()
endfunction()

# Valgrind sees what is read before it was written. It knows no AVX-512, takes the place of a test's own operator new, and
# runs one thread at a time; these have no operator new and are over in seconds without the cases about threads.
find_program(SCALEDOT_VALGRIND valgrind)
mark_as_advanced(SCALEDOT_VALGRIND)
set(SCALEDOT_MEMCHECK_TESTS
    "^(attention_containers|attention_special_values|conformance|merge|scores|split_heads|usage)_test")
if(NOT SCALEDOT_VALGRIND)
    message(STATUS "scaledot: *.memcheck are skipped, they need valgrind")
endif()

function(scaledot_add_memcheck name)
    if(SCALEDOT_VALGRIND AND SCALEDOT_RUNS_avx2 AND name MATCHES "${SCALEDOT_MEMCHECK_TESTS}")
        set(arguments --test-case-exclude=*threads*)
        if(name MATCHES "^usage_test") # which is not doctest's
            set(arguments)
        endif()
        add_test(NAME ${name}.memcheck
            COMMAND ${SCALEDOT_VALGRIND} -q --error-exitcode=1 $<TARGET_FILE:${name}> ${arguments})
        set_tests_properties(${name}.memcheck PROPERTIES
            ENVIRONMENT "SCALEDOT_ARCHITECTURE=avx2;OMP_NUM_THREADS=2" TIMEOUT 600)
    endif()
endfunction()

function(scaledot_add_dispatched_test name file each)
    scaledot_add_program(${name} ${file})
    target_link_libraries(${name} PRIVATE scaledot::dispatch)
    target_compile_options(${name} PRIVATE ${SCALEDOT_CALLER_FLAGS})
    scaledot_precompile(${name} scaledot::dispatch ${SCALEDOT_CALLER_FLAGS})
    scaledot_add_memcheck(${name})
    if(NOT each)
        scaledot_add_program_test(${name} ${name})
        return()
    endif()
    foreach(architecture IN LISTS SCALEDOT_DISPATCHED)
        if(SCALEDOT_RUNS_${architecture})
            scaledot_add_program_test(${name}.${architecture} ${name})
            set_tests_properties(${name}.${architecture} PROPERTIES ENVIRONMENT SCALEDOT_ARCHITECTURE=${architecture})
        endif()
    endforeach()
endfunction()

function(scaledot_add_test_program name file)
    scaledot_add_program(${name} ${file})
    target_compile_options(${name} PRIVATE ${ARGN})
    target_link_options(${name} PRIVATE ${ARGN})
    cmake_path(GET file STEM stem)
    if(stem MATCHES "${SCALEDOT_ATTENTION_TESTS}")
        scaledot_share_attention(${name} ${ARGN})
    endif()
    set(more_flags)
    if(NOT ARGN AND (NOT stem MATCHES "${SCALEDOT_OPTIMISED_TESTS}" OR stem MATCHES "${SCALEDOT_UNOPTIMISED_KERNEL_TESTS}"))
        set(more_flags ${SCALEDOT_CALLER_FLAGS})
    endif()
    target_compile_options(${name} PRIVATE ${more_flags})
    if(NOT stem MATCHES "${SCALEDOT_ATTENTION_TESTS}") # those begin with another header
        scaledot_precompile(${name} scaledot_dev ${ARGN} ${more_flags})
    endif()
    scaledot_add_program_test(${name} ${name})
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
        if(variant STREQUAL "dispatched" AND "dispatched" IN_LIST SCALEDOT_TEST_VARIANTS)
            list(FIND ARGN each each)
            math(EXPR each "${each} + 1")
            scaledot_add_dispatched_test(${name}.dispatched ${file} ${each})
            set(built TRUE)
        elseif(variant IN_LIST SCALEDOT_TEST_VARIANTS AND SCALEDOT_RUNS_${variant})
            scaledot_add_test_program(${name}.${variant} ${file} ${SCALEDOT_FLAGS_${variant}})
            set(built TRUE)
        endif()
    endforeach()
    if(NOT built)
        scaledot_add_test_program(${name} ${file})
    endif()
endfunction()
