"""Replacement for cupy.cuda.thrust (precompiled for real devices): sorts on the host through the simulator's own access
to device memory."""

import numpy
import simgpu

available = True


def get_build_version():
    return 0


def _load(ptr, shape, dtype):
    a = numpy.empty(shape, dtype)
    simgpu.peek(a.ctypes.data, ptr, a.nbytes)
    return a


def _store(ptr, a):
    a = numpy.ascontiguousarray(a)
    simgpu.poke(ptr, a.ctypes.data, a.nbytes)


def sort(dtype, data_start, keys_start, shape):
    simgpu.library("thrust.sort")
    _store(data_start, numpy.sort(_load(data_start, shape, dtype), axis=-1, kind="stable"))


def argsort(dtype, idx_start, data_start, keys_start, shape):
    simgpu.library("thrust.argsort")
    data = _load(data_start, shape, dtype)
    order = numpy.argsort(data, axis=-1, kind="stable")
    _store(idx_start, order.astype(numpy.intp))
    _store(data_start, numpy.take_along_axis(data, order, axis=-1))


def lexsort(dtype, idx_start, keys_start, k, n):
    simgpu.library("thrust.lexsort")
    _store(idx_start, numpy.lexsort(_load(keys_start, (k, n), dtype)).astype(numpy.intp))
