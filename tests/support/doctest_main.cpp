// SPDX-License-Identifier: BSD-3-Clause
// doctest's own code and main, compiled once for all tests.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
