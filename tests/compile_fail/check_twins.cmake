# SPDX-License-Identifier: BSD-3-Clause
# Compiles FILE twice with COMPILER: it must pass as it is, and fail with its own "// expects: " text under SCALEDOT_WRONG.
cmake_policy(VERSION 3.22)
file(STRINGS ${FILE} expected REGEX "^// expects: ")
string(REPLACE "// expects: " "" expected "${expected}")
if(NOT expected)
    message(FATAL_ERROR "${FILE} has no line '// expects: <text>'")
endif()

set(command ${COMPILER} -std=c++20 -fsyntax-only -Wall -Wextra -Wpedantic -Werror ${FILE})
foreach(directory IN LISTS INCLUDES)
    if(directory)
        list(APPEND command -I${directory})
    endif()
endforeach()

execute_process(COMMAND ${command} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(NOT result EQUAL 0)
    message(FATAL_ERROR "the right use does not compile:\n${output}")
endif()

execute_process(COMMAND ${command} -DSCALEDOT_WRONG RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(result EQUAL 0)
    message(FATAL_ERROR "the wrong use compiles")
endif()
string(FIND "${output}" "${expected}" position)
if(position EQUAL -1)
    message(FATAL_ERROR "the wrong use fails without saying '${expected}':\n${output}")
endif()
