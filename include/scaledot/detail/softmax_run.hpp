// SPDX-License-Identifier: BSD-3-Clause
// Runs a softmax on views, here or in the kernels of scaledot::dispatch.
#ifndef SCALEDOT_DETAIL_SOFTMAX_RUN_HPP
#define SCALEDOT_DETAIL_SOFTMAX_RUN_HPP

#include <scaledot/detail/compiled_calls.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/softmax_driver.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/kernel/simd.hpp>

#include <cstddef>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// A softmax with the widest kernels there are.
template <softmax_output Output, class S, class R>
void run_softmax(const strided_view<const S>& x, const strided_view<R>& y, std::size_t axis, double temperature)
{
    if constexpr (softmax_is_compiled<S, R>) {
        compiled::selected_kernels().softmax(
            {array_of(x), array_of(y), axis, temperature, static_cast<int>(Output), threads_of_caller()});
    } else {
        drive_softmax<native_architecture, Output>(x, y, axis, temperature);
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
