// SPDX-License-Identifier: BSD-3-Clause
// ONNX Runtime's attention operators, through its Python package (onnxruntime_peer.py).
#include "python_peer.hpp"

namespace scaledot_benchmark {
namespace {

const register_peer<python_peer> registered("onnxruntime", "ONNX Runtime " SCALEDOT_ONNXRUNTIME_VERSION,
                                            "onnxruntime_peer.py");

} // namespace
} // namespace scaledot_benchmark
