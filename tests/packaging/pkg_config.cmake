# SPDX-License-Identifier: BSD-3-Clause
# Builds and runs a program with the flags that pkg-config gives, in a prefix that was moved.
cmake_policy(VERSION 3.22)
set(ENV{PKG_CONFIG_PATH} ${PREFIX}/share/pkgconfig:${PREFIX}/${LIBRARIES}/pkgconfig)
set(package scaledot)
if(DISPATCH)
    set(package scaledot-dispatch) # it requires the other
endif()

function(ask result)
    execute_process(COMMAND ${PKG_CONFIG} ${ARGN} ${package}
        OUTPUT_VARIABLE answer OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
    separate_arguments(answer UNIX_COMMAND "${answer}")
    set(${result} ${answer} PARENT_SCOPE)
endfunction()

ask(version --modversion)
if(NOT version STREQUAL VERSION)
    message(FATAL_ERROR "${package}.pc says ${version}, not ${VERSION}")
endif()

ask(flags --cflags --libs)
set(directories ${flags})
list(FILTER directories INCLUDE REGEX "^-I")
list(TRANSFORM directories REPLACE "^-I" "")
set(normal)
foreach(directory IN LISTS directories)
    cmake_path(NORMAL_PATH directory)
    list(APPEND normal ${directory})
endforeach()
if(NOT "${PREFIX}/include" IN_LIST normal)
    message(FATAL_ERROR "${PREFIX}/include is not in: ${flags}")
endif()
if(flags MATCHES "-std=")
    message(FATAL_ERROR "the standard is the user's to choose: ${flags}")
endif()

file(REMOVE_RECURSE ${WORK})
file(MAKE_DIRECTORY ${WORK})
execute_process(COMMAND ${COMPILER} -std=c++20 -O0 ${CONSUMER}/consumer.cpp ${flags} -o ${WORK}/consumer
    COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${WORK}/consumer COMMAND_ERROR_IS_FATAL ANY)
