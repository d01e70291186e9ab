# SPDX-License-Identifier: BSD-3-Clause
# Conan takes the recipe and reads the version from the headers. Nothing is fetched, so nothing is built.
cmake_policy(VERSION 3.22)
file(REMOVE_RECURSE ${WORK})
set(ENV{CONAN_HOME} ${WORK})
execute_process(COMMAND ${CONAN} export ${SOURCE}/packaging/conan COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CONAN} list scaledot/* OUTPUT_VARIABLE listing COMMAND_ERROR_IS_FATAL ANY)
if(NOT listing MATCHES "scaledot/${VERSION}")
    message(FATAL_ERROR "no scaledot/${VERSION} in\n${listing}")
endif()
