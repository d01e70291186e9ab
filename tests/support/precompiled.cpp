// SPDX-License-Identifier: BSD-3-Clause
// A file to compile precompiled.hpp for.
