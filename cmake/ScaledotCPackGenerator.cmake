# SPDX-License-Identifier: BSD-3-Clause
# Read by cpack once for each kind of package.
if(CPACK_GENERATOR STREQUAL "DEB")
    list(GET CPACK_INSTALL_CMAKE_PROJECTS 0 build)
    list(APPEND CPACK_INSTALL_CMAKE_PROJECTS ${build} scaledot debian /)
endif()
