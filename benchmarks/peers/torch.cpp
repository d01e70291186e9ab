// SPDX-License-Identifier: BSD-3-Clause
// PyTorch's scaled_dot_product_attention, through its Python package (torch_peer.py).
#include "python_peer.hpp"

namespace scaledot_benchmark {
namespace {

const register_peer<python_peer> registered("torch", "PyTorch " SCALEDOT_TORCH_VERSION, "torch_peer.py");
const register_peer<python_peer> in_bfloat16("torch", "PyTorch " SCALEDOT_TORCH_VERSION, "torch_peer.py", "bfloat16");

} // namespace
} // namespace scaledot_benchmark
