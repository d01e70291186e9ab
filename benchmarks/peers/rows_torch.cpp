// SPDX-License-Identifier: BSD-3-Clause
// PyTorch's softmax, log_softmax, logsumexp, layer_norm and rms_norm, through its Python package (rows_torch.py).
#include "rows_python.hpp"

namespace scaledot_benchmark {
namespace {

class rows_torch final : public rows_python_peer {
public:
    rows_torch() : rows_python_peer("torch", "PyTorch " SCALEDOT_TORCH_VERSION, "rows_torch.py") {}
    bool supports(const row_case&) const override { return true; }
};

const register_row_peer<rows_torch> registered;

} // namespace
} // namespace scaledot_benchmark
