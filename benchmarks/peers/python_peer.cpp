// SPDX-License-Identifier: BSD-3-Clause
#include "python_peer.hpp"

#include "python_process.hpp"

#include <algorithm>
#include <memory>
#include <sstream>
#include <string>
#include <utility>

namespace scaledot_benchmark {
namespace {

class prepared_in_python final : public prepared_attention {
public:
    prepared_in_python(std::shared_ptr<python_process> process, const attention_problem& problem,
                       const std::string& type)
        : process_(std::move(process)), outputs_(problem.shape.query_elements()),
          inputs_and_output_(elements(problem.shape))
    {
        const attention_shape& s = problem.shape;
        float* to = inputs_and_output_.data();
        to = std::copy_n(problem.q, s.query_elements(), to);
        to = std::copy_n(problem.k, s.key_elements(), to);
        output_ = std::copy_n(problem.v, s.key_elements(), to);
        std::ostringstream order;
        order << "prepare " << inputs_and_output_.path();
        for (const std::size_t n : {s.batch, s.heads, s.key_heads, s.queries, s.keys, s.size}) {
            order << ' ' << n;
        }
        order << ' ' << s.causal << ' ' << type;
        process_->ask(order.str());
    }

    double run(std::size_t times) override { return std::stod(process_->ask("run " + std::to_string(times))); }

    void copy_output(float* out) override
    {
        process_->ask("output");
        std::copy_n(output_, outputs_, out);
    }

private:
    static std::size_t elements(const attention_shape& s) { return 2 * (s.query_elements() + s.key_elements()); }

    std::shared_ptr<python_process> process_;
    std::size_t outputs_;
    shared_floats inputs_and_output_;
    float* output_ = nullptr;
};

} // namespace

python_peer::python_peer(std::string name, std::string description, std::string script, std::string type)
    : name_(std::move(name)), description_(std::move(description)), script_(std::move(script)), type_(std::move(type))
{
}

double python_peer::tolerance() const
{
    return type_ == "float" ? contender::tolerance() : 1e-1;
}

python_peer::~python_peer() = default;

std::unique_ptr<prepared_attention> python_peer::prepare(const attention_problem& problem, int threads)
{
    if (!process_) {
        process_ = std::make_shared<python_process>(script_, threads);
    }
    return std::make_unique<prepared_in_python>(process_, problem, type_);
}

} // namespace scaledot_benchmark
