// SPDX-License-Identifier: BSD-3-Clause
// What nearly every test includes and none changes: parsed once for all that are compiled alike. Tests do not rely on
// it: each includes what it uses.
#pragma once

#include <scaledot/detail/xtensor.hpp>

#include <doctest/doctest.h>
#include <xsimd/xsimd.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>
