// SPDX-License-Identifier: BSD-3-Clause
// A peer for row operations whose Python package brings libraries and thread pools of its own; see python_process.hpp.
#pragma once

#include "python_process.hpp"
#include "row_peer.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sstream>
#include <string>
#include <utility>

namespace scaledot_benchmark {

inline std::string text_of(row_operation operation)
{
    switch (operation) {
    case row_operation::softmax:
        return "softmax";
    case row_operation::log_softmax:
        return "log_softmax";
    case row_operation::logsumexp:
        return "logsumexp";
    case row_operation::layer_norm:
        return "layer_norm";
    case row_operation::rms_norm:
        return "rms_norm";
    }
    return {};
}

inline std::string text_of(row_type type)
{
    return type == row_type::float32 ? "float" : type == row_type::float64 ? "double" : "bfloat16";
}

/// The output lies in shared memory in double, after it x, gamma and beta as floats; the child makes its own arrays of
/// the case's type.
class prepared_rows_in_python final : public prepared_rows {
public:
    prepared_rows_in_python(std::shared_ptr<python_process> process, const row_problem& problem)
        : process_(std::move(process)), outputs_(problem.what.outputs()),
          numbers_(2 * outputs_ + problem.what.rows * problem.what.columns + 2 * problem.what.columns)
    {
        static_assert(sizeof(double) == 2 * sizeof(float));
        const row_case& what = problem.what;
        float* to = std::copy_n(problem.x, what.rows * what.columns, numbers_.data() + 2 * outputs_);
        to = std::copy_n(problem.gamma, what.columns, to);
        std::copy_n(problem.beta, what.columns, to);
        std::ostringstream order;
        order << "prepare " << numbers_.path() << ' ' << text_of(what.operation) << ' ' << text_of(what.type) << ' '
              << what.rows << ' ' << what.columns << ' ' << what.axis << ' ' << row_epsilon;
        process_->ask(order.str());
    }

    double run(std::size_t times) override { return std::stod(process_->ask("run " + std::to_string(times))); }

    void copy_output(double* out) override
    {
        process_->ask("output");
        std::memcpy(out, numbers_.data(), outputs_ * sizeof(double));
    }

private:
    std::shared_ptr<python_process> process_;
    std::size_t outputs_;
    shared_floats numbers_;
};

class rows_python_peer : public row_contender {
public:
    rows_python_peer(std::string name, std::string description, std::string script)
        : name_(std::move(name)), description_(std::move(description)), script_(std::move(script))
    {
    }

    std::string name() const override { return name_; }
    std::string description() const override { return description_; }

    std::unique_ptr<prepared_rows> prepare(const row_problem& problem, int threads) override
    {
        if (!process_) {
            // Results that a package allocates anew should not cost fresh pages each time.
            setenv("MALLOC_MMAP_MAX_", "0", 1);
            setenv("MALLOC_TRIM_THRESHOLD_", "8589934592", 1);
            process_ = std::make_shared<python_process>(script_, threads);
        }
        return std::make_unique<prepared_rows_in_python>(process_, problem);
    }

private:
    std::string name_, description_, script_;
    std::shared_ptr<python_process> process_;
};

} // namespace scaledot_benchmark
