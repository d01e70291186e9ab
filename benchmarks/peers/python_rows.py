# SPDX-License-Identifier: BSD-3-Clause
"""The child's side of rows_python.hpp: like python_peer.py's, for softmax, log_softmax, logsumexp and the norms.

    prepare PATH OPERATION TYPE ROWS COLUMNS AXIS EPSILON   maps the output, x, gamma and beta, one after the other
"""

import collections

import numpy

import python_peer

Case = collections.namedtuple("Case", "operation type rows columns axis epsilon")
Way = python_peer.Way


def aligned(array, alignment=64):
    """A copy that begins at a multiple of so many bytes, as everyone else's arrays do."""
    memory = numpy.empty(array.nbytes + alignment, numpy.uint8)
    first = -memory.ctypes.data % alignment
    copy = memory[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def serve(ways_of):
    """ways_of(case, x, gamma, beta, threads) lists the ways, given arrays of float, or of double for double."""

    def prepare(path, arguments, threads):
        operation, kind, rows, columns, axis, epsilon = arguments
        case = Case(operation, kind, int(rows), int(columns), int(axis), float(epsilon))
        numbers = numpy.memmap(path, dtype=numpy.float32, mode="r+")
        size = case.rows * case.columns
        outputs = case.rows if operation == "logsumexp" else size
        out, inputs = numpy.split(numbers, [2 * outputs])
        x, gamma, beta = numpy.split(inputs, [size, size + case.columns])
        dtype = numpy.float64 if kind == "double" else numpy.float32
        inputs = [aligned(numpy.asarray(part, dtype)) for part in (x.reshape(case.rows, case.columns), gamma, beta)]
        return ways_of(case, *inputs, threads), out.view(numpy.float64).reshape((case.rows, -1))

    python_peer.answer_orders(prepare)
