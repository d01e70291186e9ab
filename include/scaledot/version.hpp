// SPDX-License-Identifier: BSD-3-Clause
// The library's version, as numbers a preprocessor can compare. CMake parses this file; it is the only place that says
// it.
#ifndef SCALEDOT_VERSION_HPP
#define SCALEDOT_VERSION_HPP

/// Raised by what breaks, from 1.0 on.
#define SCALEDOT_VERSION_MAJOR 0
/// Raised by what is new; before 1.0, also by what breaks.
#define SCALEDOT_VERSION_MINOR 1
/// Raised by what is repaired.
#define SCALEDOT_VERSION_PATCH 0

#endif
