# SPDX-License-Identifier: BSD-3-Clause
# scaledot::dispatch: src/kernels compiled once for each instruction set, picked when the program runs.
include_guard()
include(${CMAKE_CURRENT_LIST_DIR}/ScaledotArchitectures.cmake)

if(SCALEDOT_ONLY_RUNNABLE_KERNELS)
    include(${CMAKE_CURRENT_LIST_DIR}/ScaledotMachine.cmake)
    foreach(architecture IN LISTS SCALEDOT_DISPATCHED)
        if(NOT SCALEDOT_RUNS_${architecture})
            list(REMOVE_ITEM SCALEDOT_DISPATCHED ${architecture})
        endif()
    endforeach()
endif()

add_library(scaledot_dispatch STATIC src/dispatch.cpp)
if(NOT SCALEDOT_INSTALL_DISPATCH)
    set_target_properties(scaledot_dispatch PROPERTIES EXCLUDE_FROM_ALL TRUE)
endif()
add_library(scaledot::dispatch ALIAS scaledot_dispatch)
set_target_properties(scaledot_dispatch PROPERTIES EXPORT_NAME dispatch POSITION_INDEPENDENT_CODE ON)
target_link_libraries(scaledot_dispatch PUBLIC scaledot)
# Its users' calls go to the library; the kernels themselves are made of the headers as they are.
target_compile_definitions(scaledot_dispatch INTERFACE SCALEDOT_DISPATCH)

set(SCALEDOT_KERNEL_FLAGS "" CACHE STRING "More flags for the kernels of scaledot::dispatch, after their own")
# Attention of few or small heads is up to a twentieth faster for -O3, and softmax of long rows on SSE2; norms are not.
set_source_files_properties(src/kernels/attention.cpp src/kernels/softmax.cpp PROPERTIES
    COMPILE_OPTIONS "$<$<NOT:$<CONFIG:Debug>>:-O3>;${SCALEDOT_KERNEL_FLAGS}")

# Compiled code for wider instruction sets than the machine may have must not meet the rest of the program: the linker
# keeps one body of std::vector's members, say, for all callers. So each architecture's objects become one, all of whose
# names but that of its kernels are local to it.
function(scaledot_add_kernels architecture)
    set(name scaledot_kernels_${architecture})
    target_compile_definitions(scaledot_dispatch PRIVATE SCALEDOT_KERNELS_${architecture})
    add_library(${name} OBJECT EXCLUDE_FROM_ALL src/kernels/attention.cpp src/kernels/scores.cpp src/kernels/table.cpp)
    target_link_libraries(${name} PRIVATE scaledot)
    target_compile_definitions(${name} PRIVATE SCALEDOT_KERNELS_OF=${architecture})
    if(architecture MATCHES "^avx512_(bf16|amx)$") # its softmax and norms are those of avx512: src/dispatch.cpp
        target_compile_definitions(${name} PRIVATE SCALEDOT_NO_ROWS)
    else()
        target_sources(${name} PRIVATE src/kernels/norm.cpp src/kernels/softmax.cpp)
    endif()
    # Whatever the project's flags: optimised, but in debug builds, and with arithmetic as it is written.
    target_compile_options(${name} PRIVATE $<$<NOT:$<CONFIG:Debug>>:-O2> -fno-fast-math
        $<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique> ${ARGN} ${SCALEDOT_KERNEL_FLAGS})
    # What follows a kernel in its caller is not compiled for AVX: it runs several times slower while the upper halves of
    # the registers are in use, and g++ clears them (vzeroupper) with this only, which -O1 leaves out.
    target_compile_options(${name} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fexpensive-optimizations>)
    # These files are larger than those the inliner's limit on a file's growth is made for.
    target_compile_options(${name} PRIVATE $<$<CXX_COMPILER_ID:GNU>:--param=inline-unit-growth=400>)
    set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE ON INTERPROCEDURAL_OPTIMIZATION OFF)
    if(SCALEDOT_LOCAL_NAMES)
        set(object ${CMAKE_CURRENT_BINARY_DIR}/${name}${CMAKE_CXX_OUTPUT_EXTENSION})
        add_custom_command(OUTPUT ${object}
            COMMAND ${CMAKE_LINKER} -r --force-group-allocation -o ${object} $<TARGET_OBJECTS:${name}>
            COMMAND ${CMAKE_OBJCOPY} --wildcard --keep-global-symbol=_ZN8scaledot??compiled_*[0-9]${architecture}E ${object}
            DEPENDS $<TARGET_OBJECTS:${name}>
            COMMAND_EXPAND_LISTS VERBATIM)
        target_sources(scaledot_dispatch PRIVATE ${object})
        # Makefiles know the objects of another target only as files that are there.
        add_dependencies(scaledot_dispatch ${name})
    else()
        target_sources(scaledot_dispatch PRIVATE $<TARGET_OBJECTS:${name}>)
    endif()
endfunction()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang" AND NOT APPLE)
    set(SCALEDOT_LOCAL_NAMES ON)
    target_compile_definitions(scaledot_dispatch PRIVATE SCALEDOT_X86_KERNELS)
    foreach(architecture IN LISTS SCALEDOT_DISPATCHED)
        scaledot_add_kernels(${architecture} ${SCALEDOT_FLAGS_${architecture}})
    endforeach()
else()
    set(SCALEDOT_LOCAL_NAMES OFF)
    scaledot_add_kernels(baseline)
endif()
