// SPDX-License-Identifier: BSD-3-Clause
// What programs and the kernels of scaledot::dispatch hand each other. Both sides are compiled with flags of their own
// and live in namespaces of their own (detail/config.hpp), so that what crosses is common to all: plain structs without
// code, in a namespace that spells the version. Headers and a library of different versions do not link.
#ifndef SCALEDOT_DETAIL_COMPILED_HPP
#define SCALEDOT_DETAIL_COMPILED_HPP

#include <scaledot/version.hpp>

#include <array>
#include <cstddef>

#define SCALEDOT_COMPILED_JOIN_EXPANDED(major, minor, patch) compiled_##major##_##minor##_##patch
#define SCALEDOT_COMPILED_JOIN(major, minor, patch) SCALEDOT_COMPILED_JOIN_EXPANDED(major, minor, patch)
#define SCALEDOT_COMPILED SCALEDOT_COMPILED_JOIN(SCALEDOT_VERSION_MAJOR, SCALEDOT_VERSION_MINOR, SCALEDOT_VERSION_PATCH)

namespace scaledot::SCALEDOT_COMPILED {

enum class element_type { none, boolean, single_precision, double_precision, half_precision, brain };

/// Elements in memory, as detail::strided_view; of type none where there is no such array. Void is void, or const void.
template <class Void>
struct array {
    Void* data = nullptr;
    element_type type = element_type::none;
    std::size_t rank = 0;
    const std::size_t* shape = nullptr;
    const std::ptrdiff_t* strides = nullptr;
};

/// The caller's threads: run(tasks, task, context) calls task(context, i) for each i in [0, tasks).
struct thread_source {
    std::size_t concurrency;
    void (*run)(std::size_t tasks, void (*task)(void*, std::size_t), void* context);
};

/// An optional whole number.
template <class Number>
struct choice {
    bool given;
    Number value;
};

/// A checked call of attention: detail::attention_plan and the options it refers to.
struct plan {
    std::size_t batch;
    std::size_t heads;
    std::size_t key_heads;
    std::size_t queries;
    std::size_t keys;
    std::size_t head_size;
    double scale;
    array<const void> mask;
    bool causal;
    bool align_given;
    bool bottom_right;
    choice<std::ptrdiff_t> query_offset;
    choice<std::size_t> window_left;
    choice<std::size_t> window_right;
    const std::size_t* key_lengths;
    std::size_t key_lengths_count;
    double softcap;
    const void* sinks;
    element_type sinks_type;
    std::size_t sinks_count;
};

/// What attention says of a finished row: the three numbers of kernel::row_total and the bytes of
/// kernel::score_statistics, which are there when they were asked for.
struct row_report {
    std::size_t entry;
    std::size_t head;
    std::size_t query;
    std::array<double, 3> total;
    const std::array<std::byte, 80>* statistics;
};

/// A function and what it is called with first.
template <class Argument>
struct callback {
    const void* context;
    void (*call)(const void* context, const Argument& argument);
};

struct attention_call {
    plan what;
    array<const void> q;
    array<const void> k;
    array<const void> v;
    array<void> out; ///< of type none: v is not looked at
    bool with_statistics;
    callback<row_report> report;
    thread_source threads;
};

struct scores_call {
    plan what;
    array<const void> q;
    array<const void> k;
    array<void> out;
    int stage; ///< score_stage
    thread_source threads;
};

/// A row of probabilities, in arithmetic's type.
struct probability_row {
    std::size_t entry;
    std::size_t head;
    std::size_t query;
    std::size_t visible;
    const void* probabilities;
};

struct probabilities_call {
    plan what;
    array<const void> q;
    array<const void> k;
    callback<probability_row> use;
    thread_source threads;
};

struct softmax_call {
    array<const void> x;
    array<void> y;
    std::size_t axis;
    double temperature;
    int output; ///< kernel::softmax_output
    thread_source threads;
};

/// A normalised block's kernel::normalization, unscaled.
struct norm_report {
    std::size_t block;
    double mean;
    double inverse;
};

struct norm_call {
    bool centred;
    array<void> out;
    array<const void> x;
    array<const void> gamma;
    array<const void> beta;
    std::size_t axis;
    double epsilon;
    callback<norm_report> report; ///< no context: nothing to report to
    thread_source threads;
};

/// The kernels of one instruction set. In src/kernels/table.cpp, softmax and norm may be null; selected_kernels() has all.
struct kernels {
    const char* architecture;
    void (*attention)(const attention_call&);
    void (*scores)(const scores_call&);
    void (*probabilities)(const probabilities_call&);
    void (*softmax)(const softmax_call&);
    void (*norm)(const norm_call&);
};

/// Those of the widest instruction set of this machine, or of the one that the environment asks for: dispatch.hpp.
const kernels& selected_kernels();

} // namespace scaledot::SCALEDOT_COMPILED

#endif
