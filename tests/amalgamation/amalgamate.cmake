# SPDX-License-Identifier: BSD-3-Clause
# scripts/amalgamate gives the same bytes twice, has every public header in them and includes none of ours; what the
# compiler sees of it is, token for token, what it sees of the headers.
cmake_policy(VERSION 3.22)
file(REMOVE_RECURSE ${WORK})
foreach(run 1 2)
    # Python's hashes, and with them the order of its sets, differ from run to run.
    set(ENV{PYTHONHASHSEED} ${run})
    execute_process(COMMAND ${PYTHON} ${SOURCE}/scripts/amalgamate ${WORK}/${run}/scaledot.hpp COMMAND_ERROR_IS_FATAL ANY)
    file(SHA256 ${WORK}/${run}/scaledot.hpp hash_${run})
endforeach()
if(NOT hash_1 STREQUAL hash_2)
    message(FATAL_ERROR "two runs differ")
endif()

file(READ ${WORK}/1/scaledot.hpp text)
if(text MATCHES "#include *[<\"]scaledot/")
    message(FATAL_ERROR "a header of ours is still included: ${CMAKE_MATCH_0}")
endif()
file(GLOB headers RELATIVE ${SOURCE}/include ${SOURCE}/include/scaledot/*.hpp)
list(REMOVE_ITEM headers scaledot/dispatch.hpp) # of no use without a compiled library
foreach(header IN LISTS headers)
    string(FIND "${text}" "\n// ---- ${header}\n" at)
    if(at EQUAL -1)
        message(FATAL_ERROR "${header} is missing")
    endif()
endforeach()
string(FIND "${text}" "scaledot ${VERSION} in one header" at)
if(at EQUAL -1)
    message(FATAL_ERROR "the version is missing")
endif()

if(FETCHED)
    message("the compiler's view is not compared, that needs an installed xtensor and xsimd")
    return()
endif()
foreach(include ${SOURCE}/include/scaledot ${WORK}/1)
    file(WRITE ${WORK}/unit.cpp "#include \"${include}/scaledot.hpp\"\n")
    string(MAKE_C_IDENTIFIER ${include} view)
    # As many conditionals as possible taken: amalgamation_test compiles it as it is without.
    execute_process(COMMAND ${COMPILER} -std=c++20 -march=native -DSCALEDOT_DISPATCH -I${SOURCE}/include -E -P
        ${WORK}/unit.cpp -o ${WORK}/${view} COMMAND_ERROR_IS_FATAL ANY)
    list(APPEND views ${WORK}/${view})
endforeach()
execute_process(COMMAND ${PYTHON} -c
    "import sys; ours, one = (open(name, encoding='utf-8').read().split() for name in sys.argv[1:]); sys.exit(len(ours) < 10000 or ours != one)"
    ${views} COMMAND_ERROR_IS_FATAL ANY)
