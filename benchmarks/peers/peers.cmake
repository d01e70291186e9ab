# SPDX-License-Identifier: BSD-3-Clause
# Adds to attention_benchmark every peer that this machine has. None is needed, none is fetched: an absent one is skipped
# with a message that says how to get it.
set(SCALEDOT_PEERS_PYTHON "" CACHE FILEPATH
    "Interpreter of a virtual environment with some of torch, onnxruntime + onnx, scipy-openblas32, onednn-devel-cpu-gomp")
set(SCALEDOT_ONEDNN_DIR "" CACHE PATH "Where oneDNN is installed, built for OpenMP (ONEDNN_CPU_RUNTIME=OMP)")
set(SCALEDOT_GGML_DIR "" CACHE PATH "A folder with ggml's sources, built as shared libraries in its subfolder build")

# Their own folder of the environment: <prefix>/include, <prefix>/lib and site-packages.
set(peers_prefix "")
set(peers_packages "")
if(SCALEDOT_PEERS_PYTHON)
    execute_process(COMMAND ${SCALEDOT_PEERS_PYTHON} -c "import sys, sysconfig; print(sys.prefix); print(sysconfig.get_path('platlib'))"
        OUTPUT_VARIABLE output OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
    string(REPLACE "\n" ";" output "${output}")
    list(GET output 0 peers_prefix)
    list(GET output 1 peers_packages)
endif()

function(scaledot_peer name)
    cmake_parse_arguments(PARSE_ARGV 1 peer "" "" "SOURCES;INCLUDES;LIBRARIES;DEFINITIONS")
    list(TRANSFORM peer_SOURCES PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/peers/)
    add_library(peer_${name} OBJECT ${peer_SOURCES})
    target_link_libraries(peer_${name} PUBLIC scaledot_dev ${peer_LIBRARIES})
    target_include_directories(peer_${name} SYSTEM PRIVATE ${peer_INCLUDES})
    target_compile_definitions(peer_${name} PRIVATE ${peer_DEFINITIONS})
    target_link_libraries(attention_benchmark PRIVATE peer_${name})
    message(STATUS "scaledot: benchmarks against ${name}")
endfunction()

function(scaledot_no_peer name how)
    message(STATUS "scaledot: no benchmarks against ${name}: ${how}")
endfunction()

# find_* results must follow the paths above when those change, so they are not cached.
macro(scaledot_find_header variable header)
    unset(${variable})
    find_path(${variable} ${header} NO_CACHE ${ARGN})
endmacro()
macro(scaledot_find_shared_library variable name)
    unset(${variable})
    find_library(${variable} ${name} NO_CACHE ${ARGN})
endmacro()

scaledot_peer(xtensor SOURCES xtensor.cpp)

if(NOT OpenMP_CXX_FOUND)
    message(STATUS "scaledot: no OpenMP, so no benchmarks against OpenBLAS, oneDNN and Eigen, whose row blocks it shares out")
else()
    find_package(Eigen3 QUIET NO_MODULE)
    if(TARGET Eigen3::Eigen)
        get_target_property(eigen_includes Eigen3::Eigen INTERFACE_INCLUDE_DIRECTORIES)
        scaledot_peer(eigen SOURCES eigen.cpp INCLUDES ${eigen_includes})
        # g++ 12 takes the deliberately undefined registers of its own AVX-512 intrinsics for a mistake of Eigen's.
        target_compile_options(peer_eigen PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
    else()
        scaledot_no_peer(Eigen "install libeigen3-dev")
    endif()

    set(prefixed ${peers_packages}/scipy_openblas32)
    if(peers_packages AND EXISTS ${prefixed}/include/cblas.h)
        scaledot_find_shared_library(openblas scipy_openblas PATHS ${prefixed}/lib NO_DEFAULT_PATH REQUIRED)
        scaledot_peer(openblas SOURCES openblas.cpp INCLUDES ${prefixed}/include LIBRARIES ${openblas}
            DEFINITIONS SCALEDOT_OPENBLAS_PREFIXED)
    else()
        scaledot_find_header(openblas_include cblas.h PATH_SUFFIXES openblas openblas-pthread x86_64-linux-gnu/openblas-pthread)
        scaledot_find_shared_library(openblas openblas)
        if(openblas_include AND openblas)
            scaledot_peer(openblas SOURCES openblas.cpp INCLUDES ${openblas_include} LIBRARIES ${openblas})
        else()
            scaledot_no_peer(OpenBLAS "pip install scipy-openblas32 into SCALEDOT_PEERS_PYTHON, or install libopenblas-dev")
        endif()
    endif()

    set(how "set SCALEDOT_ONEDNN_DIR, or pip install onednn-devel-cpu-gomp into SCALEDOT_PEERS_PYTHON")
    set(places ${SCALEDOT_ONEDNN_DIR} ${peers_prefix})
    scaledot_find_header(onednn_include oneapi/dnnl/dnnl.hpp HINTS ${places} PATH_SUFFIXES include)
    scaledot_find_shared_library(onednn dnnl HINTS ${places} PATH_SUFFIXES lib)
    if(onednn_include AND onednn)
        file(STRINGS ${onednn_include}/oneapi/dnnl/dnnl_config.h runtime REGEX "^#define DNNL_CPU_RUNTIME DNNL_RUNTIME_OMP$")
        if(runtime)
            scaledot_peer(onednn SOURCES onednn.cpp INCLUDES ${onednn_include} LIBRARIES ${onednn})
        else()
            scaledot_no_peer(oneDNN "the one found does not run on OpenMP; ${how}")
        endif()
    else()
        scaledot_no_peer(oneDNN "${how}")
    endif()
endif()
