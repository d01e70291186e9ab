# SPDX-License-Identifier: BSD-3-Clause
# scaledot_dev: what our own tests, benchmarks and experiments link. The library, warnings as errors, OpenMP, the data.
include_guard()

scaledot_find_or_fetch_json()
find_package(Threads REQUIRED)

add_library(scaledot_warnings INTERFACE)
target_compile_options(scaledot_warnings INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror)

set(SCALEDOT_CALLER_FLAGS "" CACHE STRING
    "More flags for tests, examples and benchmarks that call the library, but tests of kernels and of -ffast-math")

set(SCALEDOT_SHARED_DIR "${PROJECT_SOURCE_DIR}/../shared" CACHE PATH
    "Third-party data: GPT-2 tensors, the ONNX conformance cases. What needs it is skipped where it is absent")
cmake_path(ABSOLUTE_PATH SCALEDOT_SHARED_DIR BASE_DIRECTORY ${PROJECT_SOURCE_DIR} NORMALIZE OUTPUT_VARIABLE shared_directory)

add_library(scaledot_dev INTERFACE)
target_link_libraries(scaledot_dev INTERFACE scaledot::scaledot scaledot_warnings nlohmann_json::nlohmann_json Threads::Threads)
target_compile_definitions(scaledot_dev INTERFACE
    SCALEDOT_SHARED_DIR="${shared_directory}"
    SCALEDOT_SOURCE_DIR="${PROJECT_SOURCE_DIR}")

if(SCALEDOT_OPENMP)
    find_package(OpenMP QUIET COMPONENTS CXX)
    if(OpenMP_CXX_FOUND)
        target_link_libraries(scaledot_dev INTERFACE OpenMP::OpenMP_CXX)
    else()
        message(STATUS "scaledot: no OpenMP for ${CMAKE_CXX_COMPILER_ID}, our programs use one thread unless they bring their own")
    endif()
endif()
