# SPDX-License-Identifier: BSD-3-Clause
"""ONNX Runtime on the CPU: one-node models of Attention (ONNX), MultiHeadAttention and GroupQueryAttention (its own), each
fed what it wants without copies inside the clock. See python_peer.cpp."""

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper

import python_peer

FLOAT, INT32 = TensorProto.FLOAT, TensorProto.INT32


def model_of(node, inputs, outputs, domains):
    graph = helper.make_graph(
        [node],
        "attention",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


class Session:
    """A model with its inputs and outputs bound, so that a run copies nothing."""

    def __init__(self, model, inputs, threads, shared=()):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.binding = self.session.io_binding()
        self.values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(value) for name, value in inputs.items()}
        for name, value in self.values.items():
            self.binding.bind_ortvalue_input(name, value)
        for output in self.session.get_outputs():
            name = output.name
            # A cache's output is its input: the new key and value are written in place.
            if name in shared:
                self.binding.bind_ortvalue_output(name, self.values[shared[name]])
            else:
                empty = numpy.zeros(output.shape, numpy.float32)
                self.values[name] = onnxruntime.OrtValue.ortvalue_from_numpy(empty)
                self.binding.bind_ortvalue_output(name, self.values[name])

    def run(self):
        self.session.run_with_iobinding(self.binding)


def heads_last(x):
    """[batch, heads, length, size] as [batch, length, heads * size]"""
    batch, _, length, _ = x.shape
    return numpy.ascontiguousarray(x.transpose(0, 2, 1, 3)).reshape(batch, length, -1)


def heads_first(x, heads):
    batch, length, _ = x.shape
    return x.reshape(batch, length, heads, -1).transpose(0, 2, 1, 3)


def attention(shape, q, k, v, threads):
    node = helper.make_node("Attention", ["q", "k", "v"], ["out"], is_causal=shape.causal)
    inputs = {"q": q, "k": k, "v": v}
    model = model_of(node, [(n, FLOAT, x.shape) for n, x in inputs.items()], [("out", FLOAT, q.shape)], {"": 23})
    session = Session(model, inputs, threads)
    return python_peer.Way(session.run, lambda: session.values["out"].numpy())


def multi_head_attention(shape, q, k, v, threads):
    node = helper.make_node(
        "MultiHeadAttention",
        ["q", "k", "v"],
        ["out"],
        domain="com.microsoft",
        num_heads=shape.heads,
        unidirectional=shape.causal,
    )
    inputs = {"q": heads_last(q), "k": heads_last(k), "v": heads_last(v)}
    outputs = [("out", FLOAT, inputs["q"].shape)]
    model = model_of(node, [(n, FLOAT, x.shape) for n, x in inputs.items()], outputs, {"": 20, "com.microsoft": 1})
    session = Session(model, inputs, threads)
    return python_peer.Way(session.run, lambda: heads_first(session.values["out"].numpy(), shape.heads))


def group_query_attention(shape, q, k, v, threads):
    """Causal attention with the newest keys and values appended to a cache, in place."""
    node = helper.make_node(
        "GroupQueryAttention",
        ["q", "k", "v", "past_k", "past_v", "last", "total"],
        ["out", "present_k", "present_v"],
        domain="com.microsoft",
        num_heads=shape.heads,
        kv_num_heads=shape.key_heads,
    )
    newest = slice(shape.keys - shape.queries, None)
    inputs = {
        "q": heads_last(q),
        "k": heads_last(k[:, :, newest]),
        "v": heads_last(v[:, :, newest]),
        "past_k": k,
        "past_v": v,
        "last": numpy.full(shape.batch, shape.keys - 1, numpy.int32),
        "total": numpy.array([shape.keys], numpy.int32),
    }
    kinds = {"last": INT32, "total": INT32}
    described = [(n, kinds.get(n, FLOAT), x.shape) for n, x in inputs.items()]
    outputs = [("out", FLOAT, inputs["q"].shape), ("present_k", FLOAT, k.shape), ("present_v", FLOAT, v.shape)]
    model = model_of(node, described, outputs, {"": 20, "com.microsoft": 1})
    session = Session(model, inputs, threads, shared={"present_k": "past_k", "present_v": "past_v"})
    return python_peer.Way(session.run, lambda: heads_first(session.values["out"].numpy(), shape.heads))


def ways_of(shape, q, k, v, threads):
    ways = [attention(shape, q, k, v, threads)]
    if shape.heads == shape.key_heads:
        ways.append(multi_head_attention(shape, q, k, v, threads))
    if shape.causal or shape.queries == 1:
        ways.append(group_query_attention(shape, q, k, v, threads))
    return ways


python_peer.serve(ways_of)
