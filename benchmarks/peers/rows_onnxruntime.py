# SPDX-License-Identifier: BSD-3-Clause
"""ONNX Runtime's row operations on the CPU: one-node models, inputs and outputs bound. See rows_python.hpp."""

import numpy
import onnxruntime
from onnx import TensorProto, helper

import python_rows
from python_rows import Way


def node_of(case):
    """The node, and which inputs it has besides x."""
    if case.operation in ("softmax", "log_softmax"):
        return helper.make_node({"softmax": "Softmax"}.get(case.operation, "LogSoftmax"), ["x"], ["y"], axis=case.axis), []
    if case.operation == "logsumexp":
        return helper.make_node("ReduceLogSumExp", ["x", "axes"], ["y"], keepdims=1), ["axes"]
    if case.operation == "layer_norm":
        inputs = ["x", "gamma", "beta"]
        return helper.make_node("LayerNormalization", inputs, ["y"], axis=-1, epsilon=case.epsilon), inputs[1:]
    node = helper.make_node("RMSNormalization", ["x", "gamma"], ["y"], axis=-1, epsilon=case.epsilon)
    return node, ["gamma"]


def ways_of(case, x, gamma, beta, threads):
    arrays = {"x": x, "gamma": gamma, "beta": beta, "axes": numpy.array([case.axis], numpy.int64)}
    node, others = node_of(case)
    kind = TensorProto.DOUBLE if case.type == "double" else TensorProto.FLOAT
    kinds = {"axes": TensorProto.INT64}
    names = ["x"] + others
    out = numpy.zeros((case.rows, 1) if case.operation == "logsumexp" else x.shape, x.dtype)
    graph = helper.make_graph(
        [node],
        "rows",
        [helper.make_tensor_value_info(n, kinds.get(n, kind), arrays[n].shape) for n in names],
        [helper.make_tensor_value_info("y", kind, out.shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    values = {n: onnxruntime.OrtValue.ortvalue_from_numpy(arrays[n]) for n in names}
    values["y"] = onnxruntime.OrtValue.ortvalue_from_numpy(out)
    for n in names:
        binding.bind_ortvalue_input(n, values[n])
    binding.bind_ortvalue_output("y", values["y"])
    return [Way(lambda: session.run_with_iobinding(binding), lambda: values["y"].numpy().reshape(case.rows, -1))]


python_rows.serve(ways_of)
