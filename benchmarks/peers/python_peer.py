# SPDX-License-Identifier: BSD-3-Clause
"""The child's side of python_peer.cpp: takes orders from standard input, one a line, answers on standard output.

    prepare PATH BATCH HEADS KEY_HEADS QUERIES KEYS SIZE CAUSAL TYPE   maps q, k, v and the output, one after the other
    run TIMES                                                          answers with the seconds it took
    output                                                             copies the last result to where the parent reads it
"""

import collections
import gc
import os
import sys
import time

import numpy

Shape = collections.namedtuple("Shape", "batch heads key_heads queries keys size causal type")


class Way:
    """One way to compute the problem: compute() runs it, output() is the last result as [batch, heads, queries, size]."""

    def __init__(self, compute, output):
        self.compute = compute
        self.output = output


def seconds(way, times):
    compute = way.compute
    now = time.thread_time if sys.argv[2] == "cpu" else time.perf_counter
    begin = now()
    for _ in range(times):
        compute()
    return now() - begin


def fastest(ways):
    """The package offers several ways; it is judged by its best for the shape."""
    if len(ways) == 1:
        return ways[0]
    for way in ways:
        way.compute()
    return min(ways, key=lambda way: min(seconds(way, 1) for _ in range(3)))


def serve(ways_of):
    """ways_of(shape, q, k, v, threads) lists the ways, given float arrays [batch, heads or key heads, length, size]."""

    def prepare(path, arguments, threads):
        shape = Shape(*map(int, arguments[:-1]), arguments[-1])
        query_shape = (shape.batch, shape.heads, shape.queries, shape.size)
        key_shape = (shape.batch, shape.key_heads, shape.keys, shape.size)
        numbers = numpy.memmap(path, dtype=numpy.float32, mode="r+")
        parts = numpy.split(numbers, numpy.cumsum([numpy.prod(s) for s in (query_shape, key_shape, key_shape)]))
        inputs = [numpy.array(part).reshape(s) for part, s in zip(parts, (query_shape, key_shape, key_shape))]
        return ways_of(shape, *inputs, threads), parts[3].reshape(query_shape)

    answer_orders(prepare)


def answer_orders(prepare):
    """prepare(path, arguments, threads) lists the ways, and says where in the shared memory their output goes."""
    threads = int(sys.argv[1])
    # Whatever a library prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    gc.disable()
    way = target = None
    for line in sys.stdin:
        order, *arguments = line.split()
        try:
            if order == "prepare":
                way = target = None
                gc.collect()
                ways, target = prepare(arguments[0], arguments[1:], threads)
                way = fastest(ways)
                answer = "ready"
            elif order == "run":
                answer = repr(seconds(way, int(arguments[0])))
            else:
                target[...] = way.output()
                answer = "done"
        except Exception as error:
            answer = "error " + " ".join(str(error).split())
        print(answer, file=answers, flush=True)
