// SPDX-License-Identifier: BSD-3-Clause
// What nearly every program includes and none changes, parsed once for all. The programs do not rely on it: each
// includes what it uses.
#pragma once

#include <scaledot/diagnostics.hpp>
#include <scaledot/scores.hpp>
#include <scaledot/statistics.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>
