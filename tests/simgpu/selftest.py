"""Tests of the simulator against NumPy: run python selftest.py (or pytest selftest.py)."""

import ctypes
import os
import subprocess
import sys
import time
from importlib.metadata import packages_distributions

import cupy as cp
import cupyx
import numpy as np
import simgpu
from cupy.cuda import runtime
from cupy.cuda.runtime import CUDARuntimeError

rng = np.random.default_rng(0)
MAJOR = int(packages_distributions()["cupy"][0].removeprefix("cupy-cuda")[:2])
CUDA_VERSION = {12: 12090, 13: 13000}[MAJOR]


def same(a, b, tol=1e-5):
    a = cp.asnumpy(a)
    assert a.shape == np.shape(b), (a.shape, np.shape(b))
    assert a.dtype == np.asarray(b).dtype, (a.dtype, np.asarray(b).dtype)
    np.testing.assert_allclose(a, b, rtol=tol, atol=tol)


def raises(err, code, f, *args):
    try:
        f(*args)
    except err as e:
        assert code is None or e.status == code, (e, code)
        return e
    raise AssertionError(f"{f} did not raise {err.__name__} {code}")


def test_device():
    p = runtime.getDeviceProperties(0)
    assert p["name"] == b"Simulated CUDA device"
    assert cp.cuda.is_available()
    assert cp.cuda.Device().compute_capability in ("80", "90")
    assert cp.cuda.Device().mem_info[1] == p["totalGlobalMem"]
    assert runtime.runtimeGetVersion() == CUDA_VERSION == runtime.driverGetVersion()
    import io
    from contextlib import redirect_stdout

    out = io.StringIO()
    with redirect_stdout(out):
        cp.show_config()
    assert "Simulated CUDA device" in out.getvalue()


def test_create_and_copy():
    for dt in ("f2", "f4", "f8", "i1", "i4", "i8", "u1", "bool", "c8", "c16"):
        x = (rng.normal(size=(3, 5)) * 10).astype(dt)
        same(cp.asarray(x), x)
        same(cp.array(x).get(), x)
    same(cp.zeros((2, 3)), np.zeros((2, 3)))
    same(cp.full((4,), 7, "f4"), np.full((4,), 7, "f4"))
    same(cp.ones(5, "i4"), np.ones(5, "i4"))
    same(cp.arange(0, 10, 3), np.arange(0, 10, 3))
    same(cp.eye(4, dtype="f4"), np.eye(4, dtype="f4"))
    same(cp.linspace(0, 1, 7), np.linspace(0, 1, 7))
    a = cp.empty(6, "f4")
    a.set(np.arange(6, dtype="f4"))
    same(a, np.arange(6, dtype="f4"))
    a.fill(3)
    same(a, np.full(6, 3, "f4"))
    same(a.astype("i4"), np.full(6, 3, "i4"))
    same(a.copy(), np.full(6, 3, "f4"))


def test_arithmetic():
    for dt in ("f4", "f8", "f2", "i4"):
        x = (rng.normal(size=(4, 1, 6)) * 5).astype(dt)
        y = (rng.normal(size=(3, 6)) * 5 + 20).astype(dt)
        a, b = cp.asarray(x), cp.asarray(y)
        tol = 1e-2 if dt == "f2" else 1e-5
        same(a + b, x + y, tol)
        same(a - b, x - y, tol)
        same(a * b, x * y, tol)
        same(a / b, x / y, tol)
        same(a // b, x // y, tol)
        same(-a, -x)
        same(abs(a), abs(x))
        same(a > b - 20, x > y - 20)
        same(cp.where(a > 0, a, b), np.where(x > 0, x, y))
        same(a * 2 + 1, x * 2 + 1, tol)
    x = rng.normal(size=(50,)).astype("f4")
    a = cp.asarray(x)
    a += 1
    a *= a
    a[3:7] -= 2
    y = (x + 1) ** 2
    y[3:7] -= 2
    same(a, y)
    same(cp.asarray(5) % cp.asarray(3), np.asarray(5 % 3))
    z = (rng.normal(size=9) + 1j * rng.normal(size=9)).astype("c8")
    same(cp.asarray(z) * cp.asarray(z).conj(), z * z.conj())
    same(cp.exp(cp.asarray(z)), np.exp(z))


def test_ufuncs():
    x = (rng.random((7, 9)) * 0.9 + 0.05).astype("f4")
    a = cp.asarray(x)
    for n in (
        "exp",
        "log",
        "sqrt",
        "tanh",
        "sin",
        "cos",
        "tan",
        "arcsin",
        "arctan",
        "sinh",
        "cosh",
        "square",
        "sign",
        "floor",
        "ceil",
        "rint",
        "log1p",
        "expm1",
        "log2",
        "log10",
        "exp2",
        "cbrt",
        "reciprocal",
        "isnan",
        "isfinite",
        "negative",
        "absolute",
        "trunc",
        "degrees",
        "logical_not",
    ):
        same(getattr(cp, n)(a), getattr(np, n)(x), 1e-4)
    y = rng.random((7, 9)).astype("f4")
    b = cp.asarray(y)
    for n in (
        "maximum",
        "minimum",
        "power",
        "arctan2",
        "hypot",
        "fmod",
        "copysign",
        "logaddexp",
        "equal",
        "less_equal",
        "logical_and",
        "true_divide",
        "fmax",
        "nextafter",
    ):
        same(getattr(cp, n)(a, b), getattr(np, n)(x, y), 1e-4)
    same(cp.clip(a, 0.2, 0.6), np.clip(x, np.float32(0.2), np.float32(0.6)))
    i = rng.integers(0, 100, 20).astype("i4")
    same(cp.asarray(i) << 2, i << 2)
    same(cp.asarray(i) & 12, i & 12)
    n = np.array([1, np.nan, -np.inf, np.inf], "f4")
    same(cp.maximum(cp.asarray(n), 0), np.maximum(n, 0))
    same(cp.nan_to_num(cp.asarray(n)), np.nan_to_num(n))
    import math

    from cupyx.scipy import special

    same(special.erf(a), np.vectorize(math.erf)(x).astype("f4"))
    same(special.erfinv(a), np.array([_erfinv(v) for v in x.ravel()], "f4").reshape(x.shape), 1e-4)


def _erfinv(y):
    import math

    lo, hi = -6.0, 6.0
    for _ in range(80):
        mid = (lo + hi) / 2
        lo, hi = (mid, hi) if math.erf(mid) < y else (lo, mid)
    return lo


def test_views_and_indexing():
    x = rng.normal(size=(4, 5, 6)).astype("f4")
    a = cp.asarray(x)
    same(a.transpose(2, 0, 1), x.transpose(2, 0, 1))
    same(a.T + 1, x.T + 1)
    same(a[1:3, ::-2, 2], x[1:3, ::-2, 2])
    same(a.reshape(20, 6)[:, 1:4] * 2, x.reshape(20, 6)[:, 1:4] * 2)
    same(cp.ascontiguousarray(a.swapaxes(0, 2)), np.ascontiguousarray(x.swapaxes(0, 2)))
    idx = np.array([3, 0, 0, 2])
    same(a[cp.asarray(idx)], x[idx])
    same(a.take(cp.asarray(idx), axis=1), x.take(idx, axis=1))
    same(a[:, cp.asarray(idx), cp.asarray(idx)], x[:, idx, idx])
    same(a[a > 0], x[x > 0])
    a[a < 0] = 0
    same(a, np.where(x < 0, np.float32(0), x))
    b = cp.zeros(5, "f4")
    cp.add.at(b, cp.asarray(idx), cp.asarray(np.ones(4, "f4")))
    cupyx.scatter_add(b, cp.asarray(idx), cp.asarray(np.ones(4, "f4")))
    e = np.zeros(5, "f4")
    np.add.at(e, idx, 1)
    same(b, e * 2)
    same(cp.concatenate([a, a], 1), np.concatenate([np.where(x < 0, np.float32(0), x)] * 2, 1))
    same(cp.stack([b, b]), np.stack([cp.asnumpy(b)] * 2))
    same(cp.pad(b, 2), np.pad(cp.asnumpy(b), 2))
    same(cp.tile(b, 3), np.tile(cp.asnumpy(b), 3))
    same(cp.repeat(b, 2), np.repeat(cp.asnumpy(b), 2))
    same(cp.tril(cp.ones((4, 4))), np.tril(np.ones((4, 4))))
    same(cp.roll(b, 2), np.roll(cp.asnumpy(b), 2))
    same(cp.nonzero(b)[0], np.nonzero(cp.asnumpy(b))[0])


def test_reductions():
    for dt in ("f4", "f8", "f2", "i4", "bool"):
        x = (rng.normal(size=(33, 65, 3)) * 3).astype(dt)
        a = cp.asarray(x)
        tol = 2e-2 if dt == "f2" else 1e-4
        for ax in (None, 0, 1, (0, 2), -1):
            for n in ("sum", "mean", "max", "min"):
                if n in ("sum", "mean") and dt == "f2":
                    same(
                        getattr(a, n)(axis=ax).astype("f4"),
                        getattr(x.astype("f4"), n)(axis=ax).astype("f2").astype("f4"),
                        tol,
                    )
                else:
                    same(getattr(a, n)(axis=ax), getattr(x, n)(axis=ax), tol)
        for ax in (None, 0, 1):
            same(a.argmax(axis=ax), x.argmax(axis=ax))
            same(a.argmin(axis=ax), x.argmin(axis=ax))
        same(a.any(axis=0), x.any(axis=0))
        same(a.all(axis=0), x.all(axis=0))
    x = rng.normal(size=(100003,)).astype("f4")
    same(cp.asarray(x).sum(), x.sum(), 1e-2)
    same(cp.asarray(x).std(), x.std(), 1e-4)
    same(cp.asarray(x).var(), x.var(), 1e-4)
    same(cp.linalg.norm(cp.asarray(x)), np.linalg.norm(x), 1e-4)
    same(cp.cumsum(cp.asarray(x[:1000])), np.cumsum(x[:1000]), 1e-3)
    same(cp.prod(cp.asarray(x[:5])), np.prod(x[:5]))
    assert bool(cp.allclose(cp.asarray(x), cp.asarray(x)))
    same(cp.count_nonzero(cp.asarray(x) > 0), np.asarray(np.count_nonzero(x > 0)))


def test_sorting():
    x = rng.permutation(1000).astype("f4")
    same(cp.sort(cp.asarray(x)), np.sort(x))
    same(cp.argsort(cp.asarray(x)), np.argsort(x))
    y = x.reshape(10, 100)
    same(cp.sort(cp.asarray(y), axis=0), np.sort(y, axis=0))
    same(cp.unique(cp.asarray(x % 7)), np.unique(x % 7))


def test_elementwise_kernel():
    x = rng.normal(size=(6, 40)).astype("f4")
    y = rng.normal(size=(40,)).astype("f4")
    k = cp.ElementwiseKernel(
        "float32 x, float32 y, raw float32 t, int32 n",
        "float32 s, float32 p",
        "s = twice(x) + y + t[i % n]; p = x * y",
        "sim_ew",
        preamble="__device__ inline float twice(float v) { return 2 * v; }",
    )
    t = np.arange(4, dtype="f4")
    s, p = k(cp.asarray(x), cp.asarray(y), cp.asarray(t), 4)
    same(s, 2 * x + y + t[np.arange(240) % 4].reshape(6, 40))
    same(p, x * y)
    g = cp.ElementwiseKernel("T a, T b", "T c", "c = a > b ? a : b", "sim_generic")
    for dt in ("f2", "f4", "f8", "i4"):
        u, v = (rng.normal(size=30) * 9).astype(dt), (rng.normal(size=30) * 9).astype(dt)
        same(g(cp.asarray(u), cp.asarray(v)), np.maximum(u, v))
    out = cp.empty((6, 40), "f4")[:, ::2]
    k2 = cp.ElementwiseKernel("float32 x", "float32 o", "o = exp(-x * x) + rsqrtf(1 + x * x)", "sim_strided")
    k2(cp.asarray(x)[:, ::2], out)
    same(out, np.exp(-(x[:, ::2] ** 2)) + 1 / np.sqrt(1 + x[:, ::2] ** 2))
    ind = np.array([3, 1, 39])
    k3 = cp.ElementwiseKernel("raw float32 x, int64 j", "float32 o", "o = x[j]", "sim_raw")
    same(k3(cp.asarray(y), cp.asarray(ind)), y[ind])


def test_reduction_kernel():
    k = cp.ReductionKernel("T x, T y", "T z", "(x - y) * (x - y)", "a + b", "z = sqrt(a)", "0", "sim_dist")
    x, y = rng.normal(size=(7, 300)).astype("f4"), rng.normal(size=(7, 300)).astype("f4")
    same(k(cp.asarray(x), cp.asarray(y), axis=1), np.sqrt(((x - y) ** 2).sum(1)))
    same(k(cp.asarray(x), cp.asarray(y)), np.sqrt(((x - y) ** 2).sum()), 1e-4)
    same(k(cp.asarray(x), cp.asarray(y), axis=0), np.sqrt(((x - y) ** 2).sum(0)))


RAW = r"""
extern "C" __global__ void saxpy(const float* x, float* y, float a, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] += a * x[i];
}
extern "C" __global__ __launch_bounds__(256) void scale4(float4* __restrict__ p, float s, int n4) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n4; i += gridDim.x * blockDim.x) {
    float4 v = p[i]; v.x *= s; v.y *= s; v.z *= s; v.w *= s; p[i] = v;
  }
}
extern "C" __global__ void block_sum(const float* x, float* out, int n) {
  __shared__ float buf[256];
  int t = threadIdx.x;
  float s = 0;
  for (int i = blockIdx.x * blockDim.x + t; i < n; i += gridDim.x * blockDim.x) s += x[i];
  buf[t] = s;
  __syncthreads();
  for (int h = blockDim.x / 2; h > 0; h >>= 1) {
    if (t < h) buf[t] += buf[t + h];
    __syncthreads();
  }
  if (t == 0) out[blockIdx.x] = buf[0];
}
extern "C" __global__ void warp_sum(const float* x, float* total, int n) {
  extern __shared__ float part[];
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  float v = i < n ? __ldg(x + i) : 0.f;
  #pragma unroll
  for (int d = 16; d > 0; d /= 2) v += __shfl_down_sync(0xffffffff, v, d);
  if ((threadIdx.x & 31) == 0) part[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x == 0) {
    float s = 0;
    for (int w = 0; w < blockDim.x / 32; w++) s += part[w];
    atomicAdd(total, s);
  }
}
extern "C" __global__ void xor_and_vote(int* o) {
  int t = threadIdx.x;
  o[t] = __shfl_xor_sync(0xffffffffu, t * 10, 1);
  o[t + 32] = (int)__ballot_sync(0xffffffffu, t % 2);
  o[t + 64] = __any_sync(0xffffffffu, t == 5) * 2 + __all_sync(0xffffffffu, t < 32);
  o[t + 96] = __syncthreads_count(t < 7);
}
__constant__ float table[4];
extern "C" __global__ void use_table(float* o) { o[threadIdx.x] = table[threadIdx.x]; }
"""


def test_raw_kernel():
    n = 1000
    x, y = rng.normal(size=n).astype("f4"), rng.normal(size=n).astype("f4")
    a, b = cp.asarray(x), cp.asarray(y)
    m = cp.RawModule(code=RAW, options=("--std=c++17", "-DFOO=1", "--use_fast_math"))
    m.get_function("saxpy")((4,), (256,), (a, b, np.float32(2), np.int32(n)))
    same(b, y + 2 * x)
    m.get_function("scale4")((2,), (64,), (b, np.float32(3), np.int32(n // 4)))
    same(b, 3 * (y + 2 * x), 1e-4)
    out = cp.empty(5, "f4")
    m.get_function("block_sum")((5,), (256,), (a, out, np.int32(n)))
    same(out.sum(), x.sum(), 1e-3)
    tot = cp.zeros((), "f4")
    m.get_function("warp_sum")((8,), (128,), (a, tot, np.int32(n)), shared_mem=16)
    same(tot, x.sum(), 1e-3)
    o = cp.empty(128, "i4")
    m.get_function("xor_and_vote")((1,), (32,), (o,))
    t = np.arange(32)
    same(
        o, np.concatenate([(t ^ 1) * 10, np.full(32, 0xAAAAAAAA - 2**32), np.full(32, 3), np.full(32, 7)]).astype("i4")
    )
    tab = m.get_global("table")
    cp.ndarray((4,), "f4", tab)[...] = cp.asarray([1, 2, 3, 4], "f4")
    o = cp.empty(4, "f4")
    m.get_function("use_table")((1,), (4,), (o,))
    same(o, np.array([1, 2, 3, 4], "f4"))
    k = cp.RawKernel('extern "C" __global__ void one(int* p) { p[threadIdx.x] = 1 + (int)blockDim.x; }', "one")
    o = cp.zeros(8, "i4")
    k((1,), (8,), (o,))
    same(o, np.full(8, 9, "i4"))
    assert k.attributes["max_threads_per_block"] == 1024
    raises(cp.cuda.driver.CUDADriverError, 1, k, (1,), (2048,), (o,))
    raises(
        cp.cuda.compiler.CompileException,
        None,
        lambda: cp.RawKernel('extern "C" __global__ void bad(int* p) { p[0] = nothing; }', "bad").compile(),
    )


TEMPLATE = r"""
#include <cuda_fp16.h>
#include <cuda_bf16.h>
template <typename T, int V> struct alignas(sizeof(T) * V) Pack { T v[V]; };
template <typename T, int V>
__global__ void gelu(const T* __restrict__ x, T* __restrict__ y, int n) {
  int i = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (i >= n) return;
  Pack<T, V> p = *reinterpret_cast<const Pack<T, V>*>(x + i);
  #pragma unroll
  for (int k = 0; k < V; k++) {
    float f = (float)p.v[k];
    p.v[k] = (T)(0.5f * f * (1.f + tanhf(0.7978845608f * (f + 0.044715f * f * f * f))));
  }
  *reinterpret_cast<Pack<T, V>*>(y + i) = p;
}
template <typename T> __device__ T warp_max(T v) {
  for (int d = 16; d; d >>= 1) v = max(v, __shfl_xor_sync(0xffffffffu, v, d));
  return v;
}
#include <cooperative_groups.h>
namespace cg = cooperative_groups;
extern "C" __global__ void tiles(int* o) {
  auto b = cg::this_thread_block();
  auto t = cg::tiled_partition<8>(b);
  int v = b.thread_rank();
  for (int d = t.size() / 2; d > 0; d /= 2) v += t.shfl_down(v, d);
  o[b.thread_rank()] = t.shfl(v, 0);
}
template <typename T, int BLOCK>
__global__ void softmax(const T* x, T* y, int cols) {
  __shared__ float red[BLOCK / 32];
  const T* row = x + (size_t)blockIdx.x * cols;
  float m = -3.4e38f;
  for (int i = threadIdx.x; i < cols; i += BLOCK) m = max(m, (float)row[i]);
  m = warp_max(m);
  if (threadIdx.x % 32 == 0) red[threadIdx.x / 32] = m;
  __syncthreads();
  m = red[0];
  for (int w = 1; w < BLOCK / 32; w++) m = fmaxf(m, red[w]);
  __syncthreads();
  float s = 0;
  for (int i = threadIdx.x; i < cols; i += BLOCK) s += __expf((float)row[i] - m);
  for (int d = 16; d; d >>= 1) s += __shfl_xor_sync(0xffffffffu, s, d);
  if (threadIdx.x % 32 == 0) red[threadIdx.x / 32] = s;
  __syncthreads();
  s = 0;
  for (int w = 0; w < BLOCK / 32; w++) s += red[w];
  for (int i = threadIdx.x; i < cols; i += BLOCK) y[(size_t)blockIdx.x * cols + i] = (T)(__expf((float)row[i] - m) / s);
}
"""


def test_templates():
    names = ["gelu<float, 4>", "gelu<__half, 8>", "softmax<float, 128>", "softmax<__half, 64>"]
    m = cp.RawModule(code=TEMPLATE, options=("--std=c++17",), name_expressions=names)
    x = rng.normal(size=(16, 80)).astype("f4")

    o = cp.empty(64, "i4")
    m.get_function("tiles")((1,), (64,), (o,))
    same(o, np.repeat(np.arange(64).reshape(8, 8).sum(1), 8).astype("i4"))

    def gelu(v):
        return (0.5 * v * (1 + np.tanh(0.7978845608 * (v + 0.044715 * v**3)))).astype("f4")

    def softmax(v):
        e = np.exp(v - v.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    for name, dt, tol in (("gelu<float, 4>", "f4", 1e-5), ("gelu<__half, 8>", "f2", 2e-3)):
        a = cp.asarray(x.astype(dt))
        y = cp.empty_like(a)
        m.get_function(name)((10,), (64,), (a, y, np.int32(a.size)))
        same(y.astype("f4"), gelu(x.astype(dt).astype("f4")), tol)
    for name, dt, th, tol in (("softmax<float, 128>", "f4", 128, 1e-5), ("softmax<__half, 64>", "f2", 64, 2e-3)):
        a = cp.asarray(x.astype(dt))
        y = cp.empty_like(a)
        m.get_function(name)((16,), (th,), (a, y, np.int32(80)))
        same(y.astype("f4"), softmax(x.astype(dt).astype("f4")), tol)


def test_fuse():
    @cp.fuse()
    def f(x, y):
        return cp.tanh(x) * y + cp.sqrt(cp.abs(x))

    @cp.fuse()
    def g(x):
        return cp.sum(x * x, axis=1)

    x, y = rng.normal(size=(5, 30)).astype("f4"), rng.normal(size=(5, 30)).astype("f4")
    same(f(cp.asarray(x), cp.asarray(y)), np.tanh(x) * y + np.sqrt(abs(x)))
    same(g(cp.asarray(x)), (x * x).sum(1))


def test_matmul():
    for dt in ("f2", "f4", "f8", "c8", "c16"):
        tol = 3e-2 if dt == "f2" else 1e-4
        x, y = rng.normal(size=(7, 20)).astype(dt), rng.normal(size=(20, 11)).astype(dt)
        a, b = cp.asarray(x), cp.asarray(y)
        ref = (x.astype("f4") @ y.astype("f4")).astype(dt) if dt == "f2" else x @ y
        same(a @ b, ref, tol)
        same(cp.dot(a, b), ref, tol)
        same(cp.matmul(a, b), ref, tol)
        at, bt = cp.asarray(np.ascontiguousarray(x.T)), cp.asarray(np.ascontiguousarray(y.T))
        same(at.T @ b, ref, tol)
        same(a @ bt.T, ref, tol)
        same(at.T @ bt.T, ref, tol)
        out = cp.empty((7, 11), dt)
        cp.matmul(a, b, out=out)
        same(out, ref, tol)
        bx, by = rng.normal(size=(4, 3, 5)).astype(dt), rng.normal(size=(4, 5, 6)).astype(dt)
        bref = (bx.astype("f4") @ by.astype("f4")).astype(dt) if dt == "f2" else bx @ by
        same(cp.asarray(bx) @ cp.asarray(by), bref, tol)
        same(
            cp.matmul(cp.asarray(bx), cp.asarray(by[0])),
            (bx.astype("c16") @ by[0].astype("c16")).astype(dt)
            if dt[0] == "c"
            else (bx.astype("f8") @ by[0].astype("f8")).astype(dt),
            tol,
        )
    x, y = rng.normal(size=(3, 4, 5)).astype("f4"), rng.normal(size=(5, 4, 2)).astype("f4")
    same(
        cp.tensordot(cp.asarray(x), cp.asarray(y), axes=([1, 2], [1, 0])),
        np.tensordot(x, y, axes=([1, 2], [1, 0])),
        1e-4,
    )
    same(cp.einsum("ijk,kjl->il", cp.asarray(x), cp.asarray(y)), np.einsum("ijk,kjl->il", x, y), 1e-4)
    v = rng.normal(size=20).astype("f4")
    m = rng.normal(size=(7, 20)).astype("f4")
    same(cp.asarray(m) @ cp.asarray(v), m @ v, 1e-4)
    same(cp.dot(cp.asarray(v), cp.asarray(v)), np.dot(v, v), 1e-4)
    same(cp.outer(cp.asarray(v), cp.asarray(v)), np.outer(v, v), 1e-4)
    i = rng.integers(0, 9, (6, 6))
    same(cp.asarray(i) @ cp.asarray(i), i @ i)


def test_cublas():
    from cupy import cublas as cb
    from cupy_backends.cuda.libs import cublas

    x, y, z = (rng.normal(size=s).astype("f4") for s in ((6, 4), (4, 5), (6, 5)))
    a, b = cp.asarray(x, order="F"), cp.asarray(y, order="F")
    c = cp.asarray(z, order="F")
    cb.gemm("N", "N", a, b, c, 2.0, 0.5)
    same(c, 2 * x @ y + 0.5 * z, 1e-4)
    h = cp.cuda.device.get_cublas_handle()
    one, zero = np.array(1, "f4"), np.array(0, "f4")
    o = cp.empty((5, 6), "f4")
    ac, bc = cp.asarray(x), cp.asarray(y)
    cublas.sgemm(h, 0, 0, 5, 6, 4, one.ctypes.data, bc.data.ptr, 5, ac.data.ptr, 4, zero.ctypes.data, o.data.ptr, 5)
    same(o.reshape(6, 5), x @ y, 1e-4)
    hx, hy = x.astype("f2"), y.astype("f2")
    ha, hb, ho = cp.asarray(hx), cp.asarray(hy), cp.empty((6, 5), "f4")
    cublas.gemmEx(
        h,
        0,
        0,
        5,
        6,
        4,
        one.ctypes.data,
        hb.data.ptr,
        runtime.CUDA_R_16F,
        5,
        ha.data.ptr,
        runtime.CUDA_R_16F,
        4,
        zero.ctypes.data,
        ho.data.ptr,
        runtime.CUDA_R_32F,
        5,
        cublas.CUBLAS_COMPUTE_32F,
        -1,
    )
    same(ho, hx.astype("f4") @ hy.astype("f4"), 1e-3)
    v, w = rng.normal(size=30).astype("f4"), rng.normal(size=30).astype("f4")
    same(cb.nrm2(cp.asarray(v)), np.linalg.norm(v).astype("f4"), 1e-4)
    same(cb.asum(cp.asarray(v)), abs(v).sum(), 1e-4)
    d = cp.asarray(w)
    cb.axpy(3.0, cp.asarray(v), d)
    same(d, w + 3 * v, 1e-4)
    q = cp.zeros(6, "f4")
    cb.gemv("N", 1.0, a, cp.asarray(v[:4]), 0.0, q)
    same(q, x @ v[:4], 1e-4)
    raises(
        cublas.CUBLASError,
        7,
        cublas.sgemm,
        h,
        0,
        0,
        5,
        6,
        4,
        one.ctypes.data,
        bc.data.ptr,
        1,
        ac.data.ptr,
        4,
        zero.ctypes.data,
        o.data.ptr,
        5,
    )


def test_streams():
    s1, s2 = cp.cuda.Stream(non_blocking=True), cp.cuda.Stream()
    x = rng.normal(size=10000).astype("f4")
    h = cupyx.empty_pinned(x.shape, x.dtype)
    h[:] = x
    back = cupyx.empty_pinned(x.shape, x.dtype)
    a = cp.empty(x.shape, x.dtype)
    e0, e1 = cp.cuda.Event(), cp.cuda.Event()
    with s1:
        e0.record()
        a.set(h, stream=s1)
        b = a * 2
        e1.record()
    s2.wait_event(e1)
    with s2:
        c = b + 1
        c.get(stream=s2, out=back)
    s2.synchronize()
    assert np.allclose(back, x * 2 + 1)
    e1.synchronize()
    assert cp.cuda.get_elapsed_time(e0, e1) >= 0
    assert s2.done
    m = cp.cuda.alloc_pinned_memory(64)
    p = np.frombuffer(m, "f4", 8)
    p[:] = 5
    d = cp.empty(8, "f4")
    d.set(p)
    same(d, p)
    called = []
    s1.launch_host_func(lambda v: called.append(v), 7)
    s1.synchronize()
    assert called == [7]
    cp.cuda.Device().synchronize()
    cp.cuda.get_current_stream().synchronize()
    raises(CUDARuntimeError, 400, runtime.streamSynchronize, 12345)


def test_lazy_order():
    """A missing synchronization is detected: pinned memory is not filled early."""
    if os.environ.get("SIMGPU_ASYNC") == "eager" or os.environ.get("SIMGPU_NOPOOL", "0") != "0":
        return
    s = cp.cuda.Stream(non_blocking=True)
    back = cupyx.zeros_pinned((4,), "f4")
    a = cp.ones(4, "f4")
    cp.cuda.get_current_stream().synchronize()
    with s:
        (a + 1).get(stream=s, out=back, blocking=False)
        assert (back == 0).all()
        s.synchronize()
    assert (back == 2).all()


def test_pool():
    if os.environ.get("SIMGPU_NOPOOL", "0") != "0":
        return
    pool = cp.get_default_memory_pool()
    a = cp.empty(1000, "f4")
    assert pool.used_bytes() >= 4000
    del a
    pool.free_all_blocks()
    with cp.cuda.using_allocator(None):
        n = simgpu.stats()["mallocs"]
        a = cp.empty(100, "f4")
        assert simgpu.stats()["mallocs"] == n + 1
        assert np.isnan(cp.asnumpy(a)).all(), "fresh memory is poisoned"
    mm = cp.cuda.malloc_managed(64)
    m = cp.ndarray((8,), "f8", mm)
    m[...] = 3
    same(m, np.full(8, 3.0))
    total = cp.cuda.Device().mem_info[1]
    raises(cp.cuda.memory.OutOfMemoryError, None, cp.empty, (total,), "f4")


def test_graphs():
    x = rng.normal(size=(32, 32)).astype("f4")
    a, w = cp.asarray(x), cp.asarray(x)
    out = cp.zeros((32, 32), "f4")
    tmp = cp.empty_like(out)
    ref = np.tanh(x @ x)

    # CuPy itself refuses cuBLAS calls while a stream is captured (cuBLAS does not), so the GEMM is called through
    # ctypes.
    lib = ctypes.CDLL(f"libcublas.so.{MAJOR}")
    handle = ctypes.c_void_p(cp.cuda.device.get_cublas_handle())
    one, zero = ctypes.c_float(1), ctypes.c_float(0)

    def step():
        lib.cublasSetStream_v2(handle, ctypes.c_void_p(cp.cuda.get_current_stream().ptr))
        n, p = ctypes.c_int(32), ctypes.c_void_p
        assert (
            lib.cublasSgemm_v2(
                handle,
                0,
                0,
                n,
                n,
                n,
                ctypes.byref(one),
                p(w.data.ptr),
                n,
                p(a.data.ptr),
                n,
                ctypes.byref(zero),
                p(tmp.data.ptr),
                n,
            )
            == 0
        )
        cp.tanh(tmp, out=tmp)
        cp.add(out, tmp, out=out)

    s = cp.cuda.Stream(non_blocking=True)
    with s:
        step()
        out.fill(0)
        s.synchronize()
        s.begin_capture()
        assert s.is_capturing()
        step()
        raises(NotImplementedError, None, cp.matmul, a, w)
        out.data.copy_from_device_async(out.data, out.nbytes, s)
        g = s.end_capture()
        assert not s.is_capturing()
        s.synchronize()
        same(out, np.zeros((32, 32), "f4"))  # recorded, not run
        g.upload()
        simgpu.reset()
        for _ in range(3):
            g.launch()
        st = simgpu.stats()
        assert st["graph_launches"] == 3 and st["launches"] == 0 and st["h2d"]["count"] == 0, st
        assert sum(k["in_graph"] for k in st["kernels"].values()) == 6, st
        assert sum(k["in_graph"] for k in st["cublas"].values()) == 3, st
        s.synchronize()
        same(out, 3 * ref, 1e-4)
        a[...] = 0  # the graph reads the buffers again
        out.fill(0)
        g.launch()
        same(out, np.zeros((32, 32), "f4"), 1e-4)

    # fork and join through events
    t = cp.cuda.Stream(non_blocking=True)
    b = cp.zeros(10, "f4")
    c = cp.zeros(10, "f4")
    e, f = cp.cuda.Event(), cp.cuda.Event()
    cp.cuda.Device().synchronize()
    s.begin_capture()
    with s:
        b += 1
    e.record(s)
    t.wait_event(e)
    with t:
        cp.multiply(b, 5, out=c)
    f.record(t)
    s.wait_event(f)
    g2 = s.end_capture()
    same(c, np.zeros(10, "f4"))
    g2.launch(s)
    s.synchronize()
    same(c, np.full(10, 5, "f4"))


def test_capture_errors():
    s = cp.cuda.Stream(non_blocking=True)
    blocking = cp.cuda.Stream()
    a = cp.zeros(10, "f4")
    b = cp.zeros(10, "f4")
    b += 1
    cp.cuda.Device().synchronize()

    def bad(stream, mode, f, code):
        stream.begin_capture(mode)
        with stream:
            b.__iadd__(a)
            raises(CUDARuntimeError, code, f)
        raises(CUDARuntimeError, 901, stream.end_capture)
        assert not stream.is_capturing()

    glob, relaxed = runtime.streamCaptureModeGlobal, runtime.streamCaptureModeRelaxed
    bad(s, relaxed, lambda: runtime.streamSynchronize(s.ptr), 900)
    bad(s, relaxed, lambda: runtime.deviceSynchronize(), 900)
    bad(s, glob, lambda: runtime.malloc(1 << 20), 900)
    bad(s, glob, lambda: runtime.memcpy(a.data.ptr, b.data.ptr, 40, 3), 900)
    bad(blocking, relaxed, lambda: runtime.memsetAsync(a.data.ptr, 0, 40, 0), 906)
    raises(CUDARuntimeError, 900, runtime.streamBeginCapture, 0)
    raises(CUDARuntimeError, 401, runtime.streamEndCapture, s.ptr)
    # a kernel must be loaded before the capture
    fresh = cp.RawKernel(
        'extern "C" __global__ void fresh(float* x) { x[0] = %d; }' % (time.time_ns() % 1000003), "fresh"
    )
    from cupy_backends.cuda.api.driver import CUDADriverError

    s.begin_capture(relaxed)
    with s:
        raises(CUDADriverError, None, lambda: fresh((1,), (1,), (a,)))
    raises(CUDARuntimeError, 901, s.end_capture)
    # malloc is allowed in relaxed mode
    s.begin_capture(relaxed)
    p = runtime.malloc(4096)
    s.end_capture()
    runtime.free(p)
    # unjoined work
    t = cp.cuda.Stream(non_blocking=True)
    e = cp.cuda.Event()
    s.begin_capture()
    e.record(s)
    t.wait_event(e)
    with t:
        b.__iadd__(a)
    raises(CUDARuntimeError, 904, s.end_capture)
    # an event of a capture cannot be waited for by the host
    s.begin_capture()
    e.record(s)
    raises(CUDARuntimeError, 907, e.synchronize)
    raises(CUDARuntimeError, 901, s.end_capture)
    same(b, np.ones(10, "f4"))


def test_random():
    cp.random.seed(3)
    a = cp.random.uniform(size=20000, dtype="f4")
    x = cp.asnumpy(a)
    assert x.min() >= 0
    assert x.max() <= 1
    assert abs(x.mean() - 0.5) < 0.02
    n = cp.asnumpy(cp.random.normal(2, 3, size=20001))
    assert abs(n.mean() - 2) < 0.1
    assert abs(n.std() - 3) < 0.1
    rs = cp.random.RandomState(7)
    u = rs.rand(5)
    assert (cp.asnumpy(cp.random.RandomState(7).rand(5)) == cp.asnumpy(u)).all()
    i = cp.asnumpy(cp.random.randint(0, 10, size=1000))
    assert set(i) == set(range(10))
    p = cp.asnumpy(cp.random.permutation(100))
    assert sorted(p) == list(range(100))
    assert cp.random.choice(5, 3).shape == (3,)
    e = raises(NotImplementedError, None, cp.random.default_rng, 1)
    assert "simgpu" in str(e)
    from cupy.cuda import cub

    raises(NotImplementedError, None, cub.device_reduce, a, cub.CUPY_CUB_SUM, (0,), (), None, False)


def test_stats():
    x = cp.asarray(rng.normal(size=(64, 32)).astype("f4"))
    k = cp.ElementwiseKernel("float32 x", "float32 y", "y = x + 1", "sim_counted")
    y = cp.empty_like(x)
    k(x, y)
    y @ y.T
    simgpu.reset()
    k(x, y)
    k(x, y)
    cp.matmul(y, y.T)
    s = simgpu.stats()
    assert s["kernels"]["sim_counted"]["count"] == 2, s
    assert s["kernels"]["sim_counted"]["threads"] >= 2 * 64 * 32
    assert s["launches"] == 2
    assert s["h2d"]["count"] == 0
    assert s["d2h"]["count"] == 0
    ((name, g),) = s["cublas"].items()
    assert g["flops"] == 2 * 64 * 64 * 32 and "gemm" in name, s
    cp.asnumpy(y)
    x.set(np.zeros((64, 32), "f4"))
    s = simgpu.stats()
    assert s["d2h"] == {"count": 1, "bytes": 8192, "in_graph": 0}
    assert s["h2d"]["bytes"] == 8192
    assert simgpu.check() == 0


def child(code, **env):
    r = subprocess.run(
        [sys.executable, "-c", "import cupy as cp, numpy as np, simgpu\n" + code],
        env=os.environ | {"SIMGPU_NOPOOL": "0", "SIMGPU_PROTECT": "1"} | env,
        capture_output=True,
        text=True,
    )
    return r.returncode, r.stdout + r.stderr


def test_faults():
    bad = """
k = cp.RawKernel('extern "C" __global__ void over(float* p, int i) { p[i] = 1; }', 'over')
cp.cuda.set_allocator(None)
a = cp.zeros(10, 'f4')
"""
    rc, out = child(bad + "k((1,), (1,), (a, np.int32(11)))\ncp.cuda.Device().synchronize()\ndel a")
    assert rc == 86 and "past the end" in out, (rc, out)
    for protect in "1", "":
        fence = {"SIMGPU_FENCE": "1", "SIMGPU_PROTECT": protect}
        rc, out = child(bad + "k((1,), (1,), (a, np.int32(20)))\ncp.cuda.Device().synchronize()", **fence)
        assert rc == 1 and "IllegalAddress" in out and "kernel over" in out, (rc, out)
        rc, out = child(
            bad + 'p = np.uintp(a.data.ptr)\ndel a\nb = cp.zeros(3000, "f4")\nfor i in 0, 9999:\n'
            "    k((1,), (1,), (b if i == 0 else p, np.int32(0)))\n    cp.cuda.Device().synchronize()\n"
            '    print("done", i)\n    del b',
            **fence,
        )
        assert rc == 1 and "done 0" in out and "IllegalAddress" in out and "kernel over" in out, (rc, out)
        rc, out = child(bad + "k((1,), (1,), (a, np.int32(11)))\ncp.cuda.Device().synchronize()\ndel a", **fence)
        assert rc == 86 and "past the end" in out, (rc, out)
    rc, out = child(bad + 'k((1,), (1,), (np.zeros(4, "f4").ctypes.data, np.int32(0)))\ncp.cuda.Device().synchronize()')
    assert rc != 0 and "which is not device memory" in out, (rc, out)
    rc, out = child('import ctypes\na = cp.zeros(10, "f4")\nctypes.string_at(a.data.ptr, 4)')
    assert rc < 0 and "host code touched device memory" in out, (rc, out)
    rc, out = child(
        'import ctypes, faulthandler\nfaulthandler.enable()\na = cp.zeros(10, "f4") + 1\n'
        "cp.cuda.Device().synchronize()\nctypes.string_at(a.data.ptr, 4)"
    )
    assert rc < 0 and "host code touched device memory" in out and "string_at" in out, (rc, out)
    rc, out = child("""
k = cp.RawKernel('extern "C" __global__ void half_sync(int* p) { if (threadIdx.x) __syncthreads(); else __syncwarp(); }', 'half_sync')
k((1,), (64,), (cp.zeros(1, 'i4'),))
cp.cuda.Device().synchronize()""")
    assert rc == 1 and "deadlock" in out, (rc, out)
    rc, out = child('a = cp.zeros(1 << 20, "f4")\nb = cp.zeros(1 << 20, "f8")', SIMGPU_MEMORY="8M")
    assert rc == 1 and "OutOfMemoryError" in out, (rc, out)
    rc, out = child(
        "assert cp.cuda.runtime.getDeviceCount() == 2\nwith cp.cuda.Device(1): a = cp.arange(5)\n"
        "assert a.device.id == 1\nb = cp.asarray(a)\nprint(a.get())",
        SIMGPU_DEVICES="2",
    )
    assert rc == 0 and "[0 1 2 3 4]" in out, (rc, out)
    two = (
        "k = cp.RawKernel('extern \"C\" __global__ void k(int *x) { *x = 1; }', 'k')\n"
        "a = cp.zeros(1, 'i4')\nwith cp.cuda.Device(1): b, s = cp.zeros(1, 'i4'), cp.cuda.Stream(non_blocking=True)\n"
    )
    for use, error in (
        ("with cp.cuda.Device(1): k((1,), (1,), (b,)); print(b)", None),
        ("k((1,), (1,), (a,), stream=s)", "invalid resource handle"),
        ("f = k.kernel\nwith cp.cuda.Device(1): f((1,), (1,), (b,))", "invalid resource handle"),
        ("s.record()", "cudaErrorInvalidResourceHandle"),
        ("k((1,), (1,), (b,))\ncp.cuda.Device().synchronize()", "cudaErrorIllegalAddress"),
    ):
        rc, out = child(two + use, SIMGPU_DEVICES="2")
        assert (rc, "[1]" in out) == (0, True) if error is None else rc == 1 and error in out, (use, rc, out)
    forked = "import os\nif os.fork() == 0: cp.zeros(3)\nelse: assert os.wait()[1] == 256; cp.zeros(3)"
    rc, out = child("cp.zeros(3)\n" + forked)
    assert rc == 0 and "cudaErrorInitializationError" in out, (rc, out)


MACROS = r"""
#include "kernels.h"
#ifdef __CUDACC__
#define KERNEL(name, ...) extern "C" \
  __global__ void name(long long n, __VA_ARGS__)
#define EACH(i, n) for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < (n); i += (long long)blockDim.x * gridDim.x)
#else
#error not CUDA
#endif
#if !defined(__CUDACC_RTC__) || !defined(__CUDA_ARCH__) || defined(__NVCC__)
#error not what NVRTC defines
#endif
KERNEL(twice, const float* __restrict__ x,
       float* y) { EACH(i, n) y[i] = FACTOR * x[i]; }
extern "C" { KERNEL(thrice, const float* x, float* y) { EACH(i, n) y[i] = 3 * x[i]; } }
#define SHARED(T, name) extern __shared__ T name[]
#define TEMPLATED template <typename T> __global__
TEMPLATED void first(const T* x, T* y) { SHARED(float, buf); buf[threadIdx.x] = x[threadIdx.x]; __syncthreads(); y[threadIdx.x] = buf[0]; }
#define NOT_MINE(name) extern "C" __global__ void name();
NOT_MINE(elsewhere)
// extern "C" __global__ void in_a_comment(int* p) {}
"""


def test_macro_kernels():
    import tempfile

    with tempfile.TemporaryDirectory() as d:
        with open(d + "/kernels.h", "w") as f:
            f.write('#pragma once\nextern "C" __global__ void from_header(float* y) { y[0] = 8; }\n')
        m = cp.RawModule(
            code=MACROS, options=("-I" + d, "-DFACTOR=2", "--std=c++17"), name_expressions=["first<float>"]
        )
        x = np.arange(5, dtype="f4")
        a, y = cp.asarray(x), cp.empty(5, "f4")
        for name, want in (("twice", 2 * x), ("thrice", 3 * x)):
            m.get_function(name)((2,), (2,), (np.int64(5), a, y))
            same(y, want)
        m.get_function("first<float>")((1,), (5,), (a + 1, y), shared_mem=20)
        same(y, np.ones(5, "f4"))
        m.get_function("from_header")((1,), (1,), (y,))
        assert y[0] == 8
        for name in ("elsewhere", "in_a_comment"):
            raises(cp.cuda.driver.CUDADriverError, 500, m.get_function, name)
        e = raises(
            cp.cuda.compiler.CompileException,
            None,
            cp.RawModule(
                code=MACROS + "KERNEL(bad, float* y) { EACH(i, n)\n  y[i] = nothing; }\n",
                options=("-I" + d, "-DFACTOR=2"),
            ).compile,
        )
        line = MACROS.count("\n") + 2
        assert f":{line}:" in str(e) and "nothing" in str(e), e
    rc, out = child('cp.RawModule(code=\'extern "C" __global__ void a(int* p) {}\').get_function("b")')
    assert rc == 1 and "SYMBOL_NOT_FOUND" in out and "free" not in out, (rc, out)


class Lt:
    """A GEMM through cuBLASLt's C interface (matrices are column-major)."""

    lib = ctypes.CDLL(f"libcublasLt.so.{MAJOR}")
    handle = ctypes.c_void_p()
    lib.cublasLtCreate(ctypes.byref(handle))
    TYPE = {"f4": 0, "f8": 1, "f2": 2, "bf16": 14}
    EPILOGUE = {
        "DEFAULT": 1,
        "RELU": 2,
        "RELU_AUX": 130,
        "BIAS": 4,
        "RELU_BIAS": 6,
        "RELU_AUX_BIAS": 134,
        "DRELU": 136,
        "DRELU_BGRAD": 152,
        "GELU": 32,
        "GELU_AUX": 160,
        "GELU_BIAS": 36,
        "GELU_AUX_BIAS": 164,
        "DGELU": 192,
        "DGELU_BGRAD": 208,
        "BGRADA": 256,
        "BGRADB": 512,
    }

    def __init__(self, ta="N", tb="N", epilogue="DEFAULT", bias=0, aux=0, aux_ld=0, compute=68, scale=0, **attrs):
        self.desc = self.make("cublasLtMatmulDescCreate", compute, scale)
        self.scale = "f8" if scale == 1 else "f2" if scale == 2 else "f4"
        for a, t, v in (
            (3, "i4", "NTC".index(ta)),
            (4, "i4", "NTC".index(tb)),
            (7, "u4", self.EPILOGUE[epilogue]),
            (8, "i8", bias),
            (11, "i8", aux),
            (12, "i8", aux_ld),
            *((int(k[1:]), "i4" if k in ("a2", "a22", "a26") else "i8", v) for k, v in attrs.items()),
        ):
            self.set("cublasLtMatmulDescSetAttribute", self.desc, a, t, v)

    def make(self, name, *args):
        p = ctypes.c_void_p()
        assert getattr(self.lib, name)(ctypes.byref(p), *args) == 0
        return p

    def set(self, name, p, attr, dtype, value):
        v = np.array(value, dtype)
        assert getattr(self.lib, name)(p, attr, ctypes.c_void_p(v.ctypes.data), ctypes.c_size_t(v.nbytes)) == 0
        w = np.zeros((), dtype)
        assert (
            getattr(self.lib, name.replace("Set", "Get"))(
                p, attr, ctypes.c_void_p(w.ctypes.data), ctypes.c_size_t(w.nbytes), None
            )
            == 0
        )
        assert w == v

    def layout(self, dtype, rows, cols, ld=None, row_major=False, batch=1, stride=0):
        p = self.make(
            "cublasLtMatrixLayoutCreate",
            self.TYPE[dtype],
            ctypes.c_uint64(rows),
            ctypes.c_uint64(cols),
            ctypes.c_int64(ld or (cols if row_major else rows)),
        )
        for a, t, v in ((1, "i4", int(row_major)), (5, "i4", batch), (6, "i8", stride)):
            self.set("cublasLtMatrixLayoutSetAttribute", p, a, t, v)
        return p

    def heuristic(self, layouts, limit=1 << 22, align=None):
        pref = self.make("cublasLtMatmulPreferenceCreate")
        self.set("cublasLtMatmulPreferenceSetAttribute", pref, 1, "u8", limit)
        for i in range(4):
            if align:
                self.set("cublasLtMatmulPreferenceSetAttribute", pref, 5 + i, "u4", align)
        out, n = (
            np.zeros(2, [("algo", "u8", 8), ("ws", "u8"), ("state", "i4"), ("waves", "f4"), ("r", "i4", 4)]),
            ctypes.c_int(),
        )
        rc = self.lib.cublasLtMatmulAlgoGetHeuristic(
            self.handle, self.desc, *layouts, pref, 2, ctypes.c_void_p(out.ctypes.data), ctypes.byref(n)
        )
        return rc, out[: n.value]

    def run(self, layouts, a, b, c, d, alpha=1, beta=0, algo=None, ws=0, size=0, device_scalars=False):
        s = [np.array(alpha, self.scale), np.array(beta, self.scale)]
        if device_scalars:
            self.keep = cp.asarray(s[0]), cp.asarray(s[1])
            s = [x.data.ptr for x in self.keep]
        else:
            s = [x.ctypes.data for x in s]
        p = ctypes.c_void_p
        return self.lib.cublasLtMatmul(
            self.handle,
            self.desc,
            p(s[0]),
            p(a),
            layouts[0],
            p(b),
            layouts[1],
            p(s[1]),
            p(c),
            layouts[2],
            p(d),
            layouts[3],
            p(algo.ctypes.data) if algo is not None else None,
            p(ws),
            ctypes.c_size_t(size),
            p(cp.cuda.get_current_stream().ptr),
        )


def tf32(x):
    u = np.ascontiguousarray(x, "f4").view("u4")
    return ((u + 0x1000) & np.uint32(0xFFFFE000)).view("f4")


def gelu(v):
    return 0.5 * v * (1 + np.tanh(0.7978845608 * (v + 0.044715 * v**3)))


def dgelu(v):
    return (gelu(v + 1e-6) - gelu(v - 1e-6)) / 2e-6


def bits(mask, ld):
    """Return a boolean (m, n) matrix as cuBLASLt's bit mask: column after column of ld bits."""
    full = np.zeros((ld, mask.shape[1]), bool)
    full[: mask.shape[0]] = mask
    return np.packbits(full.T.ravel(), bitorder="little")


def lt_case(
    epilogue,
    ta="N",
    tb="N",
    m=37,
    n=21,
    k=50,
    dtype="f4",
    out=None,
    compute=68,
    alpha=1.5,
    beta=0.5,
    tol=1e-4,
    device_scalars=False,
    graph=False,
    batch=1,
    workspace=True,
):
    out = out or dtype
    r = np.random.default_rng(1)
    wide = "f8"
    x = r.normal(size=(batch, m, k)).astype(dtype)
    y = r.normal(size=(batch, k, n)).astype(dtype)
    z = r.normal(size=(batch, m, n)).astype(out)
    f = tf32 if compute == 77 else lambda v: v
    v = alpha * (f(x).astype(wide) @ f(y).astype(wide)) + beta * z.astype(wide)
    col = lambda t, flip: cp.asarray(np.ascontiguousarray(t if flip else t.swapaxes(1, 2)))  # noqa: E731
    a, b, c = col(x, ta != "N"), col(y, tb != "N"), col(z, False)
    d = cp.full((batch, n, m), np.nan, out)
    bits_ld, gelu_ld = (m + 127) // 128 * 128, (m + 7) // 8 * 8
    bias0 = r.normal(size=n if epilogue == "BGRADB" else m).astype(out)
    bias, ld = cp.asarray(bias0), 0
    pre = r.normal(size=(batch, m, n)).astype(out)
    aux = None
    if "RELU" in epilogue and ("AUX" in epilogue or epilogue[0] == "D"):
        ld = bits_ld
        aux = (
            cp.asarray(np.stack([bits(pre[i] > 0, ld) for i in range(batch)]))
            if epilogue[0] == "D"
            else cp.zeros((batch, ld * n // 8), "u1")
        )
    elif "GELU" in epilogue and ("AUX" in epilogue or epilogue[0] == "D"):
        ld = gelu_ld
        full = np.zeros((batch, n, ld), out)
        full[:, :, :m] = pre.swapaxes(1, 2)
        aux = cp.asarray(full) if epilogue[0] == "D" else cp.zeros((batch, n, ld), out)
    lt = Lt(
        ta,
        tb,
        epilogue,
        bias.data.ptr if "BIAS" in epilogue or "BGRAD" in epilogue else 0,
        aux.data.ptr if aux is not None else 0,
        ld,
        compute,
        1 if out == "f8" else 0,
        **({"a13": aux[0].size * (8 if aux.dtype == "u1" else 1)} if aux is not None else {}),
        **({"a2": 1} if device_scalars else {}),
    )
    kw = {"batch": batch}
    lay = [
        lt.layout(dtype, *((k, m) if ta != "N" else (m, k)), stride=m * k, **kw),
        lt.layout(dtype, *((n, k) if tb != "N" else (k, n)), stride=n * k, **kw),
        lt.layout(out, m, n, stride=m * n, **kw),
        lt.layout(out, m, n, stride=m * n, **kw),
    ]
    rc, res = lt.heuristic(lay, align=16)
    assert rc == 0 and len(res) == 2 and res[0]["ws"] > 0 and res[1]["ws"] == 0, (rc, res)
    work = cp.cuda.alloc(int(res[0]["ws"]))
    algo = res[0]["algo"] if workspace else None

    def go():
        rc = lt.run(
            lay,
            a.data.ptr,
            b.data.ptr,
            c.data.ptr,
            d.data.ptr,
            alpha,
            beta,
            algo,
            work.ptr,
            int(res[0]["ws"]),
            device_scalars,
        )
        assert rc == 0, rc

    if graph:
        s = cp.cuda.Stream(non_blocking=True)
        cp.cuda.Device().synchronize()
        with s:
            s.begin_capture()
            go()
            g = s.end_capture()
            s.synchronize()
            assert cp.isnan(d).all()
            simgpu.reset()
            g.launch()
            st = simgpu.stats()["cublas"]
            assert sum(q["in_graph"] for q in st.values()) == 1 == sum(q["device_kernels"] for q in st.values()), st
            s.synchronize()
    else:
        simgpu.reset()
        go()
        ((name, st),) = simgpu.stats()["cublas"].items()
        assert st["flops"] == 2 * m * n * k * batch and st["count"] == 1 and name.startswith("ltmatmul"), (name, st)
    if "BIAS" in epilogue:
        v = v + bias0.astype(wide)[:, None]
    want = v
    if epilogue.startswith("RELU"):
        want = np.maximum(v, 0)
    elif epilogue.startswith("GELU"):
        want = gelu(v)
    elif epilogue.startswith("DRELU"):
        want = np.where(pre > 0, v, 0)
    elif epilogue.startswith("DGELU"):
        want = v * dgelu(pre.astype(wide))

    def close(p, q):
        np.testing.assert_allclose(
            cp.asnumpy(p).astype(wide), q, rtol=tol, atol=tol * max(1, abs(q).max()), err_msg=epilogue
        )

    close(d.swapaxes(1, 2), want)
    if epilogue.startswith("RELU_AUX"):
        assert (cp.asnumpy(aux) == np.stack([bits(v[i] > 0, ld) for i in range(batch)])).all()
    if epilogue.startswith("GELU_AUX"):
        close(aux[:, :, :m].swapaxes(1, 2), v)
    if epilogue.endswith("_BGRAD"):
        close(bias, want[-1].sum(1))
    if epilogue == "BGRADA":
        close(bias, x[-1].astype(wide).sum(1))
    if epilogue == "BGRADB":
        close(bias, y[-1].astype(wide).sum(0))


def test_cublaslt():
    for e in Lt.EPILOGUE:
        lt_case(e)
        lt_case(e, "T", "N", m=128, n=8, k=16)
        lt_case(e, "N", "T", dtype="f8", compute=70, tol=1e-7)
        lt_case(e, dtype="f2", tol=2e-2 if "BGRAD" not in e else 4e-2)
        lt_case(e, dtype="f2", out="f4", tol=1e-3)
        lt_case(e, "T", "T", graph=True, m=65)
        lt_case(e, compute=77, tol=1e-4 if "BGRAD" not in e else 2e-3)
    lt_case("GELU_AUX_BIAS", batch=3, m=24, tol=1e-4)
    lt_case("RELU_AUX", batch=2)
    lt_case("DRELU", batch=2)
    lt_case("RELU_BIAS", device_scalars=True)
    lt_case("RELU_BIAS", device_scalars=True, graph=True)
    lt_case("DEFAULT", m=1, n=1, k=1, workspace=False)
    # TF32 is visible, and only if it is requested
    x = rng.normal(size=(40, 40)).astype("f4")
    for compute, f in ((68, lambda v: v), (77, tf32)):
        lt, a, d = Lt(compute=compute), cp.asarray(x), cp.empty((40, 40), "f4")
        lay = [lt.layout("f4", 40, 40)] * 4
        assert lt.run(lay, a.data.ptr, a.data.ptr, d.data.ptr, d.data.ptr) == 0
        same(d, (f(x).astype("f8") @ f(x).astype("f8")).astype("f4"), 2e-5)
    # row-major y = x @ w.T + bias is y.T = w @ x.T in column-major order, unless the layouts specify otherwise
    x, w, bias = (rng.normal(size=s).astype("f4") for s in ((9, 5), (7, 5), (7,)))
    a, b, v, d = cp.asarray(x), cp.asarray(w), cp.asarray(bias), cp.empty((9, 7), "f4")
    lt = Lt("T", "N", "BIAS", v.data.ptr)
    lay = [lt.layout("f4", 5, 7), lt.layout("f4", 5, 9)] + [lt.layout("f4", 7, 9)] * 2
    assert lt.run(lay, b.data.ptr, a.data.ptr, d.data.ptr, d.data.ptr) == 0
    same(d, x @ w.T + bias, 1e-5)
    lt = Lt("N", "T", "RELU")
    lay = [lt.layout("f4", 9, 5, row_major=True), lt.layout("f4", 7, 5, row_major=True)] + [
        lt.layout("f4", 9, 7, row_major=True)
    ] * 2
    assert lt.run(lay, a.data.ptr, b.data.ptr, d.data.ptr, d.data.ptr) == 0
    same(d, np.maximum(x @ w.T, 0), 1e-5)


def test_flush_to_zero():
    source = 'extern "C" __global__ void halve(const float *x, float *y) { y[0] = x[0] / 2; y[1] = x[1] * 2; }'
    tiny = np.finfo("f4").smallest_normal
    x = cp.asarray(np.array([tiny, tiny / 2], "f4"))
    y = cp.ones(2, "f4")
    cp.RawModule(code=source).get_function("halve")((1,), (1,), (x, y))  # CuPy adds -ftz=true
    assert y.get().tolist() == [0, 0]
    assert np.float32(tiny) / np.float32(2) > 0  # the host's state is restored


def test_cublaslt_refuses_the_gradients_of_epilogues_with_inner_size_1():
    for name in ("DRELU", "DGELU", "DRELU_BGRAD", "DGELU_BGRAD", "BGRADA", "BGRADB"):
        raises(AssertionError, None, lambda name=name: lt_case(name, k=1))
        lt_case(name, k=2)
    lt_case("RELU_AUX_BIAS", k=1)


def test_cublaslt_faults_on_demand():
    try:
        os.environ["SIMGPU_CUBLASLT"] = "bias/m=wrong,relu_bias/=fail,relu=state"
        lt_case("BIAS")
        lt_case("BIAS", n=1)
        lt_case("BIAS", m=1, k=1)
        raises(AssertionError, None, lambda: lt_case("BIAS", m=1))
        raises(AssertionError, None, lambda: lt_case("RELU_BIAS"))
        lt_case("RELU_BIAS", k=1)
        lt = Lt(epilogue="RELU")
        assert [int(r["state"]) for r in lt.heuristic([lt.layout("f4", 16, 16)] * 4)[1]] == [15, 0]
        os.environ["SIMGPU_CUBLASLT"] = "gelu=crash"
        raises(CUDARuntimeError, 700, lt_case, "GELU")
    finally:
        del os.environ["SIMGPU_CUBLASLT"]
        simgpu.clear()
    lt_case("GELU")


def test_cublaslt_errors():
    a = cp.zeros(64 * 64, "f4")
    p, ok, invalid, execution, unsupported = a.data.ptr, 0, 7, 13, 15
    lt = Lt()
    lay = [lt.layout("f4", 16, 16)] * 4
    _rc, res = lt.heuristic(lay)
    algo, need = res[0]["algo"], int(res[0]["ws"])
    work = cp.cuda.alloc(4096)
    assert need == 1024
    assert len(res) == 2
    assert [int(r["ws"]) for r in lt.heuristic(lay, 512)[1]] == [0]

    def run(lt=lt, lay=lay, a=p, b=p, c=p + 8192, d=p + 8192, **kw):
        return lt.run(lay, a, b, c, d, **kw)

    assert run(algo=algo, ws=work.ptr, size=need) == ok == run()
    assert run(algo=algo) == invalid == run(algo=algo, ws=work.ptr, size=need - 1)  # workspace forgotten, too small
    assert run(algo=algo, ws=np.zeros(4096, "u1").ctypes.data, size=need) == invalid  # on the host
    assert run(algo=algo, ws=work.ptr + 8, size=need) == invalid  # misaligned
    assert run(a=0) == invalid == run(d=0)
    assert run(a=np.zeros(256, "f4").ctypes.data) == execution
    assert run(a=p + 4) == ok
    assert run(a=p + 4, algo=algo, ws=work.ptr, size=need) == invalid
    assert run(a=p + 2) == invalid
    assert run(algo=np.zeros(8, "u8")) == invalid
    other = [lt.layout("f4", 32, 32)] * 4
    assert run(lay=other, algo=algo, ws=work.ptr, size=need) == unsupported
    with cp.cuda.using_allocator(None):
        small = cp.zeros(15 * 16 + 15, "f4")
        assert run(a=small.data.ptr) == execution
    assert lt.heuristic([lt.layout("f4", 16, 8), *lay[1:]])[0] == invalid  # shapes
    assert lt.heuristic([lt.layout("f4", 16, 16, ld=15), *lay[1:]])[0] == invalid
    assert lt.heuristic([lt.layout("f4", 16, 16, batch=2), *lay[1:]])[0] == invalid
    assert lt.heuristic([lt.layout("f2", 16, 16), *lay[1:]])[0] == unsupported  # types
    assert Lt(compute=70).heuristic(lay)[0] == unsupported
    assert Lt(epilogue="RELU_AUX", aux=p, aux_ld=64).heuristic(lay)[0] == invalid  # not a multiple of 128
    assert Lt(epilogue="GELU_AUX", aux=p, aux_ld=20).heuristic(lay)[0] == invalid
    assert run(Lt(epilogue="RELU_AUX", aux_ld=128)) == invalid == run(Lt(epilogue="BIAS"))  # no pointer
    row = [lt.layout("f4", 16, 16, row_major=True)] * 4
    assert Lt(epilogue="BIAS", bias=p).heuristic(row)[0] == unsupported
    assert run(Lt(a2=1)) == invalid  # alpha on the host, told device
    lay2 = [*lay[:3], lt.layout("f4", 16, 16, ld=20)]
    assert run(lay=lay2) == invalid  # in place, other layout
    assert (
        lt.lib.cublasLtMatmulDescSetAttribute(lt.desc, 3, ctypes.byref(ctypes.c_int64()), ctypes.c_size_t(8)) == invalid
    )
    assert lt.lib.cublasLtMatmulDescDestroy(lt.desc) == ok
    assert run() == invalid
    cp.cuda.Device().synchronize()


def test_nvmath():
    try:
        from nvmath.bindings import cublas, cublasLt
    except ImportError:
        return
    assert cublasLt.get_version() == CUDA_VERSION * 10
    assert os.environ["SIMGPU_HOME"] in open("/proc/self/maps").read()
    h = cublasLt.create()
    lay = cublasLt.matrix_layout_create(0, 8, 8, 8)
    desc = cublasLt.matmul_desc_create(68, 0)
    e = np.array(
        cublasLt.Epilogue.RELU, cublasLt.get_matmul_desc_attribute_dtype(cublasLt.MatmulDescAttribute.EPILOGUE)
    )
    cublasLt.matmul_desc_set_attribute(desc, cublasLt.MatmulDescAttribute.EPILOGUE, e.ctypes.data, e.nbytes)
    pref = cublasLt.matmul_preference_create()
    res, n = np.zeros(96, "u1"), np.zeros((), "i4")
    cublasLt.matmul_algo_get_heuristic(h, desc, lay, lay, lay, lay, pref, 1, res.ctypes.data, n.ctypes.data)
    assert n == 1
    x = rng.normal(size=(8, 8)).astype("f4")
    a, d, one, zero = cp.asarray(x), cp.empty((8, 8), "f4"), np.array(1, "f4"), np.array(0, "f4")
    p, q = a.data.ptr, d.data.ptr
    cublasLt.matmul(
        h, desc, one.ctypes.data, p, lay, p, lay, zero.ctypes.data, q, lay, q, lay, res.ctypes.data, 0, 0, 0
    )
    same(d, np.maximum(x @ x, 0), 1e-5)
    cublasLt.destroy(h)
    # plain cuBLAS while a stream is captured
    h = cublas.create()
    s = cp.cuda.Stream(non_blocking=True)
    cp.cuda.Device().synchronize()
    cublas.set_stream(h, s.ptr)
    work = cp.cuda.alloc(1 << 16)
    cublas.set_workspace(h, work.ptr, 1 << 16)
    s.begin_capture()
    cublas.sgemm(h, 0, 0, 8, 8, 8, one.ctypes.data, p, 8, p, 8, zero.ctypes.data, q, 8)
    g = s.end_capture()
    d.fill(0)
    cp.cuda.Device().synchronize()
    g.launch(s)
    s.synchronize()
    same(d, x @ x, 1e-5)
    raises(cublas.cuBLASError, None, cublas.set_workspace, h, work.ptr + 8, 64)
    cublas.set_math_mode(h, 3)  # TF32
    cublas.sgemm(h, 0, 0, 8, 8, 8, one.ctypes.data, p, 8, p, 8, zero.ctypes.data, q, 8)
    s.synchronize()
    same(d, (tf32(x).astype("f8") @ tf32(x)).astype("f4"), 1e-6)
    cublas.destroy(h)


def test_failures():
    simgpu.clear()
    x = np.arange(6, dtype="f4")

    def program():
        s = cp.cuda.Stream(non_blocking=True)
        with s, cp.cuda.using_allocator(None):
            a = cp.asarray(x)
            b = a * 2
            c = a.reshape(2, 3) @ b.reshape(3, 2)
            h = cupyx.empty_pinned((2, 2), "f4")
            c.get(stream=s, out=h, blocking=False)
            s.synchronize()
            s.begin_capture()
            try:
                cp.add(a, 1, out=b)
                cp.add(b, 1, out=b)
            finally:
                g = s.end_capture()
            g.launch()
            s.synchronize()
            return cp.asnumpy(b), h.copy()

    program()
    seen = {}
    for kind in ("malloc", "launch", "copy", "capture", "captured", "graph"):
        for n in range(1, 20):
            simgpu.clear()
            simgpu.fail(**{kind: n})
            try:
                b, h = program()
            except CUDARuntimeError as e:
                assert simgpu.failures() == 1, (kind, n, e)
                if kind == "launch":  # sticky until it is cleared
                    raises(CUDARuntimeError, 719, runtime.deviceSynchronize)
                seen.setdefault(kind, []).append(str(e))
            else:
                assert simgpu.failures() == 0, (kind, n)
                break
            simgpu.clear()
            b, h = program()  # usable again
            same(b, x + 2)
            same(h, x.reshape(2, 3) @ (2 * x).reshape(3, 2))
        else:
            raise AssertionError(f"{kind} never ended")
    assert {k: len(v) for k, v in seen.items()} == {
        "malloc": 3,
        "launch": 4,
        "copy": 3,
        "capture": 1,
        "captured": 2,
        "graph": 1,
    }, seen
    simgpu.clear()
    simgpu.fail(host=1)
    raises(CUDARuntimeError, 2, runtime.hostAlloc, 64, 0)
    assert "unspecified launch failure" in seen["launch"][0] and "capturing" in seen["capture"][0], seen
    raises(ValueError, None, lambda: simgpu.fail(nonsense=1))
    rc, out = child("cp.zeros(3); cp.zeros(1000000)", SIMGPU_FAIL="malloc:-2")
    assert rc == 1 and "OutOfMemoryError" in out and "injected failure" in out, (rc, out)
    rc, out = child("cp.zeros(3); cp.zeros(1000000)", SIMGPU_FAIL="malloc:2,copy:7")
    assert rc == 0 and "injected failure" in out, (rc, out)  # CuPy's pool tries again


RANK = """
import os, sys, time, signal
import cupy as cp, numpy as np, simgpu
from cupy.cuda import nccl, runtime
from cupy.cuda.runtime import CUDARuntimeError
rank, size = int(os.environ["RANK"]), int(os.environ["SIZE"])
cp.cuda.Device(rank if "CUDA_VISIBLE_DEVICES" not in os.environ else 0).use()
def communicator():
    return nccl.NcclCommunicator(size, bytes.fromhex(os.environ["ID"]), rank)
def sum_(x, stream=None, type=nccl.NCCL_FLOAT32, op=nccl.NCCL_SUM):
    comm.allReduce(x.data.ptr, x.data.ptr, x.size, type, op, 0 if stream is None else stream.ptr)
def fails(f):
    try:
        f()
    except (nccl.NcclError, CUDARuntimeError) as error:
        return str(error)
    raise AssertionError("no error")
"""


def ranks(code, size=2, begin="comm = communicator()", **env):
    """Run the code as each rank; return the exit statuses and the outputs."""
    from cupy.cuda import nccl

    env = {"ID": nccl.get_unique_id().hex(), "SIZE": str(size), "SIMGPU_DEVICES": str(size), **env}
    command = [sys.executable, "-c", f"{RANK}\n{begin}\n{code}"]
    running = [
        subprocess.Popen(
            command,
            env={**os.environ, **{k: v.format(rank=rank) for k, v in env.items()}, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in running]
    return [process.returncode for process in running], outputs


def all_well(code, size=2, **env):
    codes, outputs = ranks(code, size, **env)
    assert codes == [0] * size, outputs


def test_nccl():
    all_well(
        """
for dt, kind in (("f2", 6), ("f4", 7), ("f8", 8), ("i1", 0), ("u1", 1), ("i4", 2), ("u4", 3), ("i8", 4), ("u8", 5)):
    for op, of in ((0, np.add), (1, np.multiply), (2, np.maximum), (3, np.minimum)):
        x = cp.arange(1, 8, dtype=dt) + rank
        sum_(x, type=kind, op=op)
        expected = of.reduce([np.arange(1, 8, dtype=dt) + r for r in range(size)])
        np.testing.assert_array_equal(x.get(), expected.astype(dt))
x = (cp.arange(8, dtype="f4") * (rank + 1)).view("u4") >> 16
half = x.astype("u2")
sum_(half, type=9)
np.testing.assert_array_equal((half.astype("u4") << 16).view("f4").get(), np.arange(8) * size * (size + 1) / 2)
x = cp.full(1000, rank, "f4")
sum_(x, op=4)
assert (x == (size - 1) / 2).all()
for root in range(size):
    x = cp.full(5, rank, "f8")
    comm.bcast(x.data.ptr, 5, 8, root, 0)
    assert (x == root).all()
    x, y = cp.full(5, rank, "i4"), cp.full(5, -1, "i4")
    comm.reduce(x.data.ptr, y.data.ptr, 5, 2, 0, root, 0)
    assert (y == (sum(range(size)) if rank == root else -1)).all()
x, y = cp.full(3, rank, "f4"), cp.empty((size, 3), "f4")
comm.allGather(x.data.ptr, y.data.ptr, 3, 7, 0)
np.testing.assert_array_equal(y.get(), np.arange(size, dtype="f4").repeat(3).reshape(size, 3))
nccl.groupStart()
x, y = cp.ones(3, "f4"), cp.ones(2, "f4")
sum_(x); sum_(y)
assert (x == 1).all()  # nothing is issued before the end of the group
nccl.groupEnd()
assert (x == size).all() and (y == size).all()
assert (comm.size(), comm.rank_id(), comm.device_id()) == (size, rank, rank)
comm.check_async_error()
comm.destroy()
""",
        size=3,
    )


def test_nccl_order_and_graphs():
    """A collective waits for what is in its stream, and takes part in a graph at each launch."""
    for mode in ("lazy", "eager"):
        all_well(
            """
s = cp.cuda.Stream(non_blocking=True)
with s:
    x = cp.full(1 << 16, rank + 1, "f4")
    simgpu.reset()
    x *= 2
    sum_(x, s)
    x += 1
assert simgpu.stats()["syncs"] == 0
np.testing.assert_array_equal(x.get(stream=s), size * (size + 1) + 1)
with s:
    s.begin_capture()
    x *= 2
    sum_(x, s)
    graph = s.end_capture()
    x[...] = 1
    simgpu.reset()
    for _ in range(3):
        graph.launch(s)
s.synchronize()
assert (x.get() == (2.0 * size) ** 3).all()
stats = simgpu.stats()
assert stats["kernels"]["ncclAllReduce"] == {"count": 3, "in_graph": 3, "threads": 0}, stats["kernels"]
del graph
# A second stream that waits by an event, and a query that does not wait for the other rank.
other, event = cp.cuda.Stream(non_blocking=True), cp.cuda.Event()
with s:
    time.sleep(0.5 * rank)
    sum_(x, s)
    event.record(s)
other.wait_event(event)
began = time.time()
while not other.done:
    time.sleep(0.001)
assert (x.get() == 2 * (2.0 * size) ** 3).all()
""",
            SIMGPU_ASYNC=mode,
        )


def test_nccl_refuses_what_differs():
    for code in (
        "x = cp.ones(3 + rank, 'f4'); sum_(x)",
        "x = cp.ones(3, 'f4'); sum_(x, op=rank)",
        "x = cp.ones(4, 'f8'); sum_(x, type=7 + rank)",
        "x = cp.ones(4, 'f4'); calls = [lambda: sum_(x), lambda: comm.bcast(x.data.ptr, 4, 7, 0, 0)]\n"
        "calls[rank](); calls[1 - rank]()",
        "x = cp.ones(4, 'f4'); comm.bcast(x.data.ptr, 4, 7, rank, 0)",
        # in a graph on one rank only
        "s = cp.cuda.Stream(); x = cp.ones(4, 'f4'); cp.cuda.Device().synchronize()\n"
        "if rank: s.begin_capture()\n"
        "sum_(x, s)\n"
        "if rank: s.end_capture().launch(s)",
    ):
        codes, outputs = ranks(
            code + "\nassert 'LaunchFailure' in fails(cp.cuda.Device().synchronize)\n"
            "assert 'INTERNAL' in fails(comm.check_async_error)"
        )
        assert codes == [0, 0], outputs
        assert all("runs nccl" in output for output in outputs), outputs


def test_nccl_refuses_bad_calls():
    all_well(
        """
x = cp.ones(4, "f4")
assert "INVALID_ARGUMENT" in fails(lambda: comm.allReduce(x.data.ptr, x.data.ptr, 1 << 20, 7, 0, 0))
host = np.ones(4, "f4")
assert "INVALID_ARGUMENT" in fails(lambda: comm.allReduce(host.ctypes.data, host.ctypes.data, 4, 7, 0, 0))
with cp.cuda.Device(1 - rank):
    assert "INVALID_ARGUMENT" in fails(lambda: sum_(x))
sum_(x)
assert (x == 2).all()
comm.destroy()
""",
        SIMGPU_NOPOOL="1",
    )


def test_nccl_ranks_that_are_missing():
    # One is killed: the others hang, as with NCCL, but not for longer than the simulator's timeout.
    codes, outputs = ranks(
        """
if rank == 1: os.kill(os.getpid(), signal.SIGKILL)
x = cp.ones(4, "f4")
sum_(x)
assert "LaunchFailure" in fails(cp.cuda.Device().synchronize)
assert "REMOTE" in fails(comm.check_async_error)
""",
        SIMGPU_NCCL_TIMEOUT="1",
    )
    assert codes == [0, -9], outputs
    assert "waited too long for rank 1, which is dead" in outputs[0], outputs
    # What a watchdog does: queries do not wait, and an abort ends the collective.
    all_well(
        """
x = cp.ones(4, "f4")
s = cp.cuda.Stream()
if rank == 0:
    sum_(x, s)
    for _ in range(20):
        assert not s.done
        time.sleep(0.01)
    comm.abort()
    s.synchronize()
    assert not simgpu.stats()["guard_errors"]
""",
        SIMGPU_NCCL_TIMEOUT="30",
    )
    # The end of a communicator, also that by an abort, waits for the end of the graphs with its collectives.
    all_well(
        """
import threading
x = cp.ones(4, "f4")
s = cp.cuda.Stream(non_blocking=True)
with s:
    s.begin_capture()
    sum_(x, s)
    graph = s.end_capture()
if rank == 0:
    graph.launch(s)
    assert not s.done
ending = threading.Thread(target=comm.abort)
ending.start()
s.synchronize()
ending.join(0.3)
assert ending.is_alive()
del graph
ending.join(10)
assert not ending.is_alive()
"""
    )
    for mode in ("lazy", "eager"):  # nor do they keep a process from ending
        began = time.time()
        all_well("x = cp.ones(4, 'f4')\nif rank == 0: sum_(x); os._exit(0)", SIMGPU_ASYNC=mode)
        assert time.time() - began < 30
    codes, outputs = ranks("", begin="if rank == 0: assert 'SYSTEM' in fails(communicator)", SIMGPU_NCCL_TIMEOUT="1")
    assert codes == [0, 0] and "only 1 ranks have called it" in outputs[0], outputs


def test_nccl_refuses_a_device_of_two_ranks():
    codes, outputs = ranks("", begin="cp.cuda.Device(0).use()\nassert 'INVALID_USAGE' in fails(communicator)")
    assert codes == [0, 0] and "rank 1 has the same device" in outputs[0], outputs
    all_well("assert runtime.getDeviceCount() == 1", CUDA_VISIBLE_DEVICES="{rank}")


def test_visible_devices():
    for value, count, bus in (("1", 1, "0000:02:00.0"), ("1,0", 2, "0000:02:00.0"), ("0,5,1", 1, "0000:01:00.0")):
        code, output = child(
            f"r = cp.cuda.runtime; assert r.getDeviceCount() == {count} and r.deviceGetPCIBusId(0) == {bus!r}",
            CUDA_VISIBLE_DEVICES=value,
        )
        assert code == 0, output
    code, output = child("assert not cp.cuda.is_available()", CUDA_VISIBLE_DEVICES="")
    assert code == 0, output


if __name__ == "__main__":
    t0 = time.time()
    only = sys.argv[1:]
    failed = 0
    for name, f in list(globals().items()):
        if name.startswith("test_") and (not only or name in only or name[5:] in only):
            t = time.time()
            try:
                f()
                print(f"{name:28} ok   {time.time() - t:6.2f} s")
            except Exception:
                import traceback

                failed += 1
                print(f"{name:28} FAIL {time.time() - t:6.2f} s")
                traceback.print_exc()
    print(f"{failed} failed, {time.time() - t0:.1f} s")
    sys.exit(failed != 0)
