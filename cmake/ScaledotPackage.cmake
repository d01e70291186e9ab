# SPDX-License-Identifier: BSD-3-Clause
# What installs beside CMake's own configuration: a pkg-config file that can be moved, and CPack's .deb and archives.
include_guard()

# --- pkg-config: `name`.pc in `directory`, which finds the installation from where it lies itself ---------------------
function(scaledot_install_pkg_config name directory)
    cmake_path(IS_ABSOLUTE directory fixed)
    if(fixed)
        message(STATUS "scaledot: ${name}.pc is left out, ${directory} is not relative to the prefix")
        return()
    endif()
    string(REGEX REPLACE "[^/]+" ".." prefix_from_pc ${directory}/pkgconfig)
    # An absolute folder replaces the prefix.
    foreach(folder IN ITEMS includedir libdir)
        string(TOUPPER CMAKE_INSTALL_${folder} installed)
        set(pc_${folder} "\${prefix}")
        cmake_path(APPEND pc_${folder} ${${installed}})
    endforeach()
    configure_file(cmake/${name}.pc.in ${PROJECT_BINARY_DIR}/${name}.pc @ONLY)
    install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${directory}/pkgconfig)
endfunction()
scaledot_install_pkg_config(scaledot ${CMAKE_INSTALL_DATADIR})
if(SCALEDOT_INSTALL_DISPATCH)
    scaledot_install_pkg_config(scaledot-dispatch ${CMAKE_INSTALL_LIBDIR})
endif()

if(NOT PROJECT_IS_TOP_LEVEL)
    return()
endif()

# --- CPack: `cmake --workflow --preset package`, or `cpack -G DEB` in any build ---------------------------------------
set(CPACK_PACKAGE_NAME scaledot)
set(CPACK_PACKAGE_VENDOR "the scaledot authors")
set(CPACK_PACKAGE_CONTACT "the scaledot authors <noreply@scaledot.invalid>" CACHE STRING "Maintainer of the packages")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "numerics of attention for C++20, on xtensor")
set(CPACK_PACKAGE_DESCRIPTION "Scaled dot-product attention, softmax and log-softmax, LayerNorm and RMSNorm,
and the figures that tell whether logits are still where a model can learn.
Takes any xtensor container, adaptor or strided view.")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_RESOURCE_FILE_README ${PROJECT_SOURCE_DIR}/README.md)
set(CPACK_GENERATOR DEB TGZ)
set(CPACK_VERBATIM_VARIABLES ON)
# Ours only: dependencies that had to be fetched install beside us, but are packages of their own.
set(CPACK_INSTALL_CMAKE_PROJECTS ${PROJECT_BINARY_DIR} scaledot ${CMAKE_INSTALL_DEFAULT_COMPONENT_NAME} /)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
    OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)

set(CPACK_DEBIAN_PACKAGE_NAME libscaledot-dev)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libxtensor-dev (>= 0.24), libxsimd-dev (>= 8.1), xtl-dev (>= 0.7)")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS nlohmann-json3-dev)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
# Headers are of any machine; with a compiled library CPack names this one.
if(NOT SCALEDOT_INSTALL_DISPATCH)
    set(CPACK_DEBIAN_PACKAGE_ARCHITECTURE all)
endif()

# What Debian wants in /usr/share/doc is in its packages only, not in an ordinary installation.
set(debian_documents ${PROJECT_BINARY_DIR}/debian)
string(TIMESTAMP debian_date "%a, %d %b %Y %H:%M:%S +0000" UTC) # SOURCE_DATE_EPOCH, where it is set
configure_file(cmake/debian-changelog.in ${debian_documents}/changelog.Debian @ONLY)
find_program(SCALEDOT_GZIP gzip)
mark_as_advanced(SCALEDOT_GZIP)
if(SCALEDOT_GZIP)
    configure_file(CHANGELOG.md ${debian_documents}/changelog COPYONLY)
    execute_process(COMMAND ${SCALEDOT_GZIP} --best --no-name --force --keep changelog changelog.Debian
        WORKING_DIRECTORY ${debian_documents} COMMAND_ERROR_IS_FATAL ANY)
    install(FILES ${debian_documents}/changelog.gz ${debian_documents}/changelog.Debian.gz
        DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${CPACK_DEBIAN_PACKAGE_NAME} COMPONENT debian EXCLUDE_FROM_ALL)
endif()
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${CPACK_DEBIAN_PACKAGE_NAME} RENAME copyright
    COMPONENT debian EXCLUDE_FROM_ALL)
set(CPACK_PROJECT_CONFIG_FILE ${PROJECT_SOURCE_DIR}/cmake/ScaledotCPackGenerator.cmake)

set(CPACK_SOURCE_GENERATOR TGZ)
set(CPACK_SOURCE_PACKAGE_FILE_NAME scaledot-${PROJECT_VERSION}-source)
string(REGEX REPLACE "([][+.*()^$?|\\\\])" "\\\\\\1" source_pattern ${PROJECT_SOURCE_DIR})
set(CPACK_SOURCE_IGNORE_FILES
    "^${source_pattern}/(build[^/]*|output|[.]cache|packaging/conan/test_package/build)/" "^${source_pattern}/[.]git(/|$)"
    "/__pycache__/" "/compile_commands[.]json$")

include(CPack)
