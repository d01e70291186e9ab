# SPDX-License-Identifier: BSD-3-Clause
# `cmake --install` and find_package(scaledot): headers, targets, a configuration that can be moved, a version file.
include(CMakePackageConfigHelpers)

# One component, so that a package of ours can leave out dependencies that were fetched and install beside us.
set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME scaledot)
set(package_directory ${CMAKE_INSTALL_DATADIR}/cmake/scaledot)

install(DIRECTORY include/scaledot DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/licenses/scaledot)
install(TARGETS scaledot EXPORT scaledotTargets)
install(EXPORT scaledotTargets NAMESPACE scaledot:: DESTINATION ${package_directory})
if(SCALEDOT_INSTALL_DISPATCH)
    install(TARGETS scaledot_dispatch EXPORT scaledotDispatchTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
    install(EXPORT scaledotDispatchTargets NAMESPACE scaledot:: DESTINATION ${package_directory})
endif()

configure_package_config_file(cmake/scaledotConfig.cmake.in ${PROJECT_BINARY_DIR}/scaledotConfig.cmake
    INSTALL_DESTINATION ${package_directory})
# Before 1.0 a minor version may break; the library is headers, so any architecture may use it.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/scaledotConfigVersion.cmake
    COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/scaledotConfig.cmake ${PROJECT_BINARY_DIR}/scaledotConfigVersion.cmake
    cmake/ScaledotBaseline.cmake DESTINATION ${package_directory})
