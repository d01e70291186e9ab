// SPDX-License-Identifier: BSD-3-Clause
// The one file that knows the two header layouts of xtensor: flat up to 0.25, nested from 0.26 on.
#ifndef SCALEDOT_DETAIL_XTENSOR_HPP
#define SCALEDOT_DETAIL_XTENSOR_HPP

#include <scaledot/detail/half.hpp>

#if __has_include(<xtensor/containers/xtensor.hpp>)
#include <xtensor/containers/xadapt.hpp>
#include <xtensor/containers/xarray.hpp>
#include <xtensor/containers/xtensor.hpp>
#include <xtensor/core/xeval.hpp>
#include <xtensor/core/xnoalias.hpp>
#include <xtensor/views/xstrided_view.hpp>
#include <xtensor/views/xview.hpp>
#else
#include <xtensor/xadapt.hpp>
#include <xtensor/xarray.hpp>
#include <xtensor/xeval.hpp>
#include <xtensor/xnoalias.hpp>
#include <xtensor/xstrided_view.hpp>
#include <xtensor/xtensor.hpp>
#include <xtensor/xview.hpp>
#endif

#endif
