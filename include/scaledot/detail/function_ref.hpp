// SPDX-License-Identifier: BSD-3-Clause
// A reference to a callable, for code that is compiled once for all who want to be told of what it does.
#ifndef SCALEDOT_DETAIL_FUNCTION_REF_HPP
#define SCALEDOT_DETAIL_FUNCTION_REF_HPP

#include <scaledot/detail/config.hpp>

#include <concepts>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::detail {

template <class Signature>
class function_ref;

/// Refers to a callable that outlives it, or to none. A call of it is an indirect call. Shared by several threads, it
/// calls from all of them.
template <class... Arguments>
class function_ref<void(Arguments...)> {
public:
    function_ref() = default;

    template <class Callable>
        requires(std::invocable<const Callable&, Arguments...> && !std::is_same_v<Callable, function_ref>)
    function_ref(const Callable& callable)
        : callable_(&callable), call_([](const void* context, Arguments... arguments) {
              (*static_cast<const Callable*>(context))(arguments...);
          })
    {
    }

    /// Whether there is a callable to call.
    explicit operator bool() const { return call_ != nullptr; }

    void operator()(Arguments... arguments) const { call_(callable_, arguments...); }

private:
    const void* callable_ = nullptr;
    void (*call_)(const void*, Arguments...) = nullptr;
};

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
