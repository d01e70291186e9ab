// SPDX-License-Identifier: BSD-3-Clause
// What the kernels of scaledot::dispatch share: their functions, one for each operation, and the way from the structs
// of a call to this build's own types. Compiled once for each instruction set.
#pragma once

#include <scaledot/bfloat16.hpp>
#include <scaledot/detail/compiled.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/executor.hpp>

#include <cstddef>

#include <xtl/xhalf_float.hpp>

namespace scaledot::inline SCALEDOT_BUILD::calls {

namespace compiled = scaledot::SCALEDOT_COMPILED;

void attention(const compiled::attention_call& call);
void scores(const compiled::scores_call& call);
void probabilities(const compiled::probabilities_call& call);
void softmax(const compiled::softmax_call& call);
void norm(const compiled::norm_call& call);

/// Runs the tasks of a call on its caller's threads, for as long as this lives.
class callers_threads : public executor {
public:
    explicit callers_threads(const compiled::thread_source& source) : source_(source) {}

    std::size_t concurrency() const override { return source_.concurrency; }
    void run(std::size_t tasks, void (*task)(void*, std::size_t), void* context) override
    {
        source_.run(tasks, task, context);
    }

private:
    const compiled::thread_source& source_;
    executor_scope scope_{*this};
};

template <class T, class Void>
detail::strided_view<T> view_of(const compiled::array<Void>& array)
{
    return {static_cast<T*>(array.data),
            {array.shape, array.shape + array.rank},
            {array.strides, array.strides + array.rank}};
}

/// Calls use.operator()<T>() for the element type of an array.
template <class Use>
void with_element(compiled::element_type type, const Use& use)
{
    switch (type) {
    case compiled::element_type::single_precision:
        return use.template operator()<float>();
    case compiled::element_type::double_precision:
        return use.template operator()<double>();
    case compiled::element_type::half_precision:
        return use.template operator()<xtl::half_float>();
    case compiled::element_type::brain:
        return use.template operator()<bfloat16>();
    default:
        return;
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::calls
