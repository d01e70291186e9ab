# SPDX-License-Identifier: BSD-3-Clause
"""PyTorch: torch.nn.functional.scaled_dot_product_attention on the CPU, without gradients. See python_peer.cpp."""

import torch

import python_peer

attention = torch.nn.functional.scaled_dot_product_attention


def ways_of(shape, q, k, v, threads):
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    q, k, v = (torch.from_numpy(x).to(getattr(torch, shape.type)) for x in (q, k, v))
    causal = bool(shape.causal)

    def way(q, k, v, **options):
        result = []

        def compute():
            result[:] = [attention(q, k, v, is_causal=causal, **options)]

        return python_peer.Way(compute, lambda: result[0].float().reshape(shape.batch, shape.heads, shape.queries, shape.size))

    if shape.heads == shape.key_heads:
        return [way(q, k, v)]
    group = shape.heads // shape.key_heads
    ways = [way(q, k, v, enable_gqa=True)]
    ways.append(way(q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)))
    if shape.queries == 1:
        # The queries of a group as rows of one head: its keys are read once.
        ways.append(way(q.reshape(shape.batch, shape.key_heads, group, shape.size), k, v))
    return ways


python_peer.serve(ways_of)
