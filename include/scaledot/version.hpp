// SPDX-License-Identifier: BSD-3-Clause
// The library's version, as numbers a preprocessor can compare. CMake parses this file; it is the only place that says
// it.
#ifndef SCALEDOT_VERSION_HPP
#define SCALEDOT_VERSION_HPP

#define SCALEDOT_VERSION_MAJOR 0
#define SCALEDOT_VERSION_MINOR 1
#define SCALEDOT_VERSION_PATCH 0

#endif
