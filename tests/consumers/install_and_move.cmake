# SPDX-License-Identifier: BSD-3-Clause
# Installs the build in BUILD next to PREFIX, then moves it to PREFIX.
cmake_policy(VERSION 3.22)
file(REMOVE_RECURSE ${PREFIX} ${PREFIX}.elsewhere)
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD} --prefix ${PREFIX}.elsewhere COMMAND_ERROR_IS_FATAL ANY)
file(RENAME ${PREFIX}.elsewhere ${PREFIX})
