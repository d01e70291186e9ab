// SPDX-License-Identifier: BSD-3-Clause
// A peer whose Python package brings libraries and thread pools of its own: it runs in a child process, which stays for
// the whole run, so that its rounds alternate with everyone else's. Inputs and outputs go through shared memory, orders
// and seconds through pipes; only the computation is timed, by the child (python_peer.py).
#pragma once

#include "peer.hpp"

#include <cstddef>
#include <memory>
#include <string>

namespace scaledot_benchmark {

class python_process;

class python_peer final : public contender {
public:
    python_peer(std::string name, std::string description, std::string script, std::string type = "float");
    ~python_peer() override;

    std::string name() const override { return name_; }
    std::string description() const override { return description_; }
    std::string type() const override { return type_; }
    double tolerance() const override;
    std::size_t cache_element_size() const override { return type_ == "float" ? 4 : 2; }
    std::unique_ptr<prepared_attention> prepare(const attention_problem& problem, int threads) override;

private:
    std::string name_, description_, script_, type_;
    std::shared_ptr<python_process> process_;
};

} // namespace scaledot_benchmark
