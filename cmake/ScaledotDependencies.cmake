# SPDX-License-Identifier: BSD-3-Clause
# What scaledot is built on: found where it is installed, fetched at a pinned version otherwise.
include_guard()
include(FetchContent)

# Fetches one project and leaves nothing of its options in the cache: they are ordinary variables of this function.
# Its headers become system headers, so that our warnings stay ours.
function(scaledot_fetch name repository tag targets)
    message(STATUS "scaledot: ${name} is not installed, fetching ${repository} at ${tag}")
    set(CMAKE_POLICY_DEFAULT_CMP0077 NEW)
    foreach(switch BUILD_TESTS BUILD_TESTING BUILD_BENCHMARK BUILD_EXAMPLES DOCTEST_WITH_TESTS CLI11_BUILD_TESTS
            CLI11_BUILD_EXAMPLES CLI11_BUILD_DOCS CLI11_INSTALL JSON_BuildTests JSON_Install BENCHMARK_ENABLE_TESTING
            BENCHMARK_ENABLE_GTEST_TESTS BENCHMARK_ENABLE_INSTALL XTENSOR_USE_XSIMD XTENSOR_USE_TBB XTENSOR_USE_OPENMP)
        set(${switch} OFF)
    endforeach()
    set(DOCTEST_NO_INSTALL ON)
    FetchContent_Declare(${name} GIT_REPOSITORY ${repository} GIT_TAG ${tag})
    FetchContent_MakeAvailable(${name})
    foreach(target IN LISTS targets)
        get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
        set_target_properties(${target} PROPERTIES INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${directories}")
    endforeach()
    string(TOLOWER ${name} lower)
    set(SCALEDOT_FETCHED_${lower} ${${lower}_SOURCE_DIR} PARENT_SCOPE)
endfunction()

# xtensor, xtl and xsimd; nlohmann_json where it is installed. An installed xtensor brings its own xtl: the two move together.
macro(scaledot_find_or_fetch_library_dependencies)
    if(NOT TARGET xtensor)
        find_package(xtensor 0.24 QUIET)
    endif()
    if(NOT TARGET xtensor)
        if(NOT TARGET xtl)
            scaledot_fetch(xtl https://github.com/xtensor-stack/xtl.git f3ca44e9102d574e9592c6917ae09da2bacf9aae xtl) # 0.8.1
        endif()
        scaledot_fetch(xtensor https://github.com/xtensor-stack/xtensor.git f115228a7fc277b9be1bef34572831f8fd53ac73 xtensor) # 0.27.1
    endif()
    if(NOT TARGET xsimd)
        find_package(xsimd QUIET)
    endif()
    if(NOT TARGET xsimd)
        scaledot_fetch(xsimd https://github.com/xtensor-stack/xsimd.git 1f8dd9c8e162968d9b4ff0251c56d431b8777f36 xsimd) # 13.2.0
    endif()
    if(NOT TARGET nlohmann_json::nlohmann_json)
        find_package(nlohmann_json 3.10 QUIET)
    endif()
endmacro()

# What only our own tests, benchmarks and experiments use.
macro(scaledot_find_or_fetch_json)
    if(NOT TARGET nlohmann_json::nlohmann_json)
        scaledot_fetch(nlohmann_json https://github.com/nlohmann/json.git v3.11.3 nlohmann_json)
    endif()
endmacro()

macro(scaledot_find_or_fetch_doctest)
    find_package(doctest QUIET)
    if(NOT TARGET doctest::doctest)
        scaledot_fetch(doctest https://github.com/doctest/doctest.git v2.4.11 doctest)
    endif()
endmacro()

macro(scaledot_find_or_fetch_cli11)
    find_package(CLI11 QUIET)
    if(NOT TARGET CLI11::CLI11)
        scaledot_fetch(CLI11 https://github.com/CLIUtils/CLI11.git v2.4.2 CLI11)
    endif()
endmacro()

macro(scaledot_find_or_fetch_benchmark)
    find_package(benchmark QUIET)
    if(NOT TARGET benchmark::benchmark)
        scaledot_fetch(benchmark https://github.com/google/benchmark.git v1.9.1 benchmark)
    endif()
endmacro()
