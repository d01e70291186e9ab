// SPDX-License-Identifier: BSD-3-Clause
// ONNX Runtime's Softmax, LogSoftmax, ReduceLogSumExp, LayerNormalization and RMSNormalization, through its Python
// package (rows_onnxruntime.py).
#include "rows_python.hpp"

namespace scaledot_benchmark {
namespace {

class rows_onnxruntime final : public rows_python_peer {
public:
    rows_onnxruntime()
        : rows_python_peer("onnxruntime", "ONNX Runtime " SCALEDOT_ONNXRUNTIME_VERSION, "rows_onnxruntime.py")
    {
    }

    bool supports(const row_case& what) const override { return what.type != row_type::bfloat16; }
};

const register_row_peer<rows_onnxruntime> registered;

} // namespace
} // namespace scaledot_benchmark
