# SPDX-License-Identifier: BSD-3-Clause
"""PyTorch's row operations on the CPU, without gradients, into a given output where it takes one. See rows_python.hpp."""

import torch

import python_rows
from python_rows import Way

functional = torch.nn.functional


def ways_of(case, x, gamma, beta, threads):
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    x, gamma, beta = map(torch.from_numpy, (x, gamma, beta))
    if case.type == "bfloat16":
        x, gamma, beta = (t.bfloat16() for t in (x, gamma, beta))
    out = torch.empty(case.rows if case.operation == "logsumexp" else x.shape, dtype=x.dtype)

    def way(compute):
        result = []

        def run():
            result[:] = [compute()]

        return Way(run, lambda: result[0].double().numpy().reshape(case.rows, -1))

    if case.operation == "softmax":
        return [way(lambda: torch.softmax(x, case.axis, out=out))]
    if case.operation == "log_softmax":
        return [way(lambda: torch.log_softmax(x, case.axis, out=out))]
    if case.operation == "logsumexp":
        return [way(lambda: torch.logsumexp(x, case.axis, out=out))]
    shape = [case.columns]
    if case.operation == "rms_norm":
        return [way(lambda: functional.rms_norm(x, shape, gamma, case.epsilon))]
    mean, inverse = torch.empty(case.rows, 1), torch.empty(case.rows, 1)

    def in_place():
        torch.ops.aten.native_layer_norm.out(x, shape, gamma, beta, case.epsilon, out0=out, out1=mean, out2=inverse)
        return out

    ways = [way(lambda: functional.layer_norm(x, shape, gamma, beta, case.epsilon))]
    return ways + [way(in_place)] if case.type == "float" else ways


python_rows.serve(ways_of)
