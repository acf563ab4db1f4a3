"""The GPU backend: arrays in device memory, kernels from ``kernels/``, matmuls by cuBLASLt, its own stream.

Importing this module imports CuPy; `gradflow.backends.get_backend` first checks that this can work.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property, partial, wraps
from itertools import chain
from typing import Any, Concatenate, ParamSpec, TypeVar

import cupy
import cupy.cublas
import numpy as np

from gradflow.backends.cuda.block_programs import CupyBlockPrograms
from gradflow.backends.cuda.choices import Choices
from gradflow.backends.cuda.cublaslt import BoundGemm, CublasLt
from gradflow.backends.cuda.cublaslt_library import CublasLtLibrary
from gradflow.backends.cuda.epilogues import TF32, Group, grouped, n_sign_bytes
from gradflow.backends.cuda.errors import explained, free_memory
from gradflow.backends.cuda.estimates import Way, fastest_way
from gradflow.backends.cuda.fallback import FallbackCall, FastPath
from gradflow.backends.cuda.graphs import CudaGraphs, DeviceCall, is_capturable
from gradflow.backends.cuda.memory_plan import CupyMemoryPlan
from gradflow.backends.cuda.merged_programs import merged_calls, shape_of
from gradflow.backends.cuda.modules import KernelModules
from gradflow.backends.cuda.pinned import PinnedLooks, PinnedUploadBuffer
from gradflow.backends.fusion import (
    ENDING,
    MIRRORED,
    Call,
    fuse_bias_and_activation,
    fuse_update_and_advance,
    fuse_update_and_copy,
)
from gradflow.backends.kernel_sources import ENDING_PARAMETERS, WIDE_ROW_THREADS, Form, Kernel, Parameter, kernels
from gradflow.backends.reference import BoundCall, ReferenceBackend, Replay
from gradflow.errors import BackendError, SlowPathWarning, warn
from gradflow.installation import pip_install_for_gpu
from gradflow.ops import Array, Op, copy
from gradflow.version import __version__

_THREADS = 256
_WIDE_ROW = 1024  # elements from which a row has a block of threads; fewer are for a warp
_PART_OF_ROW = 1024  # elements that are worth another warp for a row

# Kernels with their own launch configuration: from the sizes, (blocks, threads).
_LAUNCHES: dict[str, Callable[[Mapping[str, int]], tuple[int, int]]] = {
    "gemm": lambda sizes: (  # of merged programs (kernels/layers/block_gemm.h)
        -(-sizes["rows"] * sizes["columns"] // 32)
        if min(sizes["rows"], sizes["columns"]) < 16
        else -(-sizes["rows"] // 64) * -(-sizes["columns"] // 64),
        1024,
    ),
    "narrow_weight_gradient": lambda sizes: (-(-(sizes["rows"] + 1) * sizes["columns"] // 32), 1024),
    "narrow_relu_gradient": lambda sizes: (
        -(-sizes["rows"] * sizes["columns"] * (1 if sizes["inner"] == 1 else 32) // _THREADS),
        _THREADS,
    ),
}


_Self = TypeVar("_Self", bound="CupyBackend")
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def _on_device(
    method: Callable[Concatenate[_Self, _Arguments], _Result],
) -> Callable[Concatenate[_Self, _Arguments], _Result]:
    """Run a method of the backend with its device as the current one, and explain CUDA's errors."""

    @wraps(method)
    def run(backend: _Self, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with backend.current():
            return method(backend, *args, **kwargs)

    return run


class CupyBackend(ReferenceBackend):
    """Backend with CuPy arrays, on which every op except the matmul is a kernel of the same name.

    All work runs on one stream owned by the backend. It does not synchronize with the default stream, so arrays that
    are passed to or from a caller are ordered with the caller's current stream by events. CUDA's current device belongs
    to the calling thread: each method makes the backend's device the current one, and the caller's again at its end.

    Args:
        ordinal: the number of the device; None takes the caller's current device.

    Attributes:
        watch: waits for work in which other processes take part, which may never be done; None for CUDA's wait.
    """

    name = "cupy"
    watch: Callable[[cupy.cuda.Stream | cupy.cuda.Event], None] | None = None

    def __init__(self, ordinal: int | None = None) -> None:
        self._device = cupy.cuda.Device(ordinal)
        with self._device:
            self.stream = cupy.cuda.Stream(non_blocking=True)
        self._has_told_of_tf32 = False
        self._has_told_of_failure = False
        self._modules = KernelModules(self._device)
        self.graphs = CudaGraphs(self.stream)
        self.choices = Choices(self.stream)
        self._most_blocks = 16 * self._device.attributes["MultiProcessorCount"]
        self._fast_gemms = FastPath(
            "cuBLASLt",
            "cuBLAS computes matmuls instead, which a CUDA graph cannot capture, and which take more launches; "
            f"install NVIDIA's cuBLAS: {pip_install_for_gpu()}",
        )

    @property
    def device(self) -> str:
        return str(cupy.cuda.runtime.getDeviceProperties(self._device.id)["name"].decode())

    @property
    def place(self) -> str:
        return f"cuda:{self._device.id}"

    @property
    def is_ampere_or_later(self) -> bool:
        """True if the device can compute in bfloat16 and TF32."""
        return int(self._device.compute_capability) >= 80

    @property
    def blas(self) -> None:
        return None

    @contextmanager
    def current(self) -> Iterator[None]:
        with explained(self.stream), self._device:
            yield

    # -- arrays ---------------------------------------------------------------------------------------------------

    @_on_device
    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        with self.stream:
            return cupy.empty(shape, dtype)

    @_on_device
    def zeros(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        array = self.empty(shape, dtype)
        array.data.memset_async(0, array.nbytes, self.stream)
        return array

    @_on_device
    def from_host(self, array: np.ndarray) -> Array:
        target = self.empty(array.shape, array.dtype)
        target.set(np.ascontiguousarray(array), stream=self.stream)
        self.wait(self.stream)
        return target

    @_on_device
    def to_host(self, array: Array) -> np.ndarray:
        if self.watch is not None:
            self.watch(self.stream)
        return np.asarray(array.get(stream=self.stream))

    @_on_device
    def copy(self, source: Array, target: Array) -> None:
        target.data.copy_from_device_async(source.data, source.nbytes, self.stream)

    def owns(self, array: object) -> bool:
        return isinstance(array, cupy.ndarray) and array.data.device_id == self._device.id

    @_on_device
    def of_device(self, array: object) -> Array:
        if isinstance(array, cupy.ndarray):
            return array
        if hasattr(array, "__dlpack__"):
            # Unlike __cuda_array_interface__ of PyTorch, this waits for the stream that wrote the array.
            with suppress(BufferError):  # DLPack has no such arrays
                return cupy.from_dlpack(array)
        return cupy.asarray(array)

    @_on_device
    def adopt(self, array: Array) -> Array:
        if not self.owns(array):
            return self.from_host(array)
        contiguous = cupy.ascontiguousarray(array)
        self.stream.wait_event(cupy.cuda.get_current_stream().record())
        return contiguous

    @_on_device
    def receive(self, array: Array, target: Array) -> None:
        super().receive(array, target)
        cupy.cuda.get_current_stream().wait_event(self.stream.record())

    @_on_device
    def empty_for_caller(self, shape: tuple[int, ...], dtype: Any) -> Array:
        array = cupy.empty(shape, dtype)
        self.stream.wait_event(cupy.cuda.get_current_stream().record())  # which may have used its memory before
        return array

    @_on_device
    def to_caller(self, array: Array) -> Array:
        cupy.cuda.get_current_stream().wait_event(self.stream.record())
        return array

    @_on_device
    def upload_buffer(self, n_bytes: int) -> PinnedUploadBuffer:
        return PinnedUploadBuffer(n_bytes, self.stream)

    @_on_device
    def looks(self, array: Array) -> PinnedLooks:
        return PinnedLooks(array, self.stream, self.wait)

    @_on_device
    def memory_plan(self) -> CupyMemoryPlan:
        _ = self._cublaslt  # allocates its workspace now, so that it counts as used memory
        return CupyMemoryPlan(free_memory(with_reserve=True), self._device.id)

    @_on_device
    def synchronize(self) -> None:
        self.wait(self.stream)

    def wait(self, work: cupy.cuda.Stream | cupy.cuda.Event) -> None:
        """Wait until a stream or an event is done, or until `watch`, which does so if it is set, raises an error."""
        if self.watch is None:
            work.synchronize()
        else:
            self.watch(work)

    def check_precision(self, precision: str) -> None:
        if precision == "bfloat16" and importlib.util.find_spec("ml_dtypes") is None:
            raise BackendError("precision='bfloat16' needs ml_dtypes: pip install ml-dtypes")
        if precision not in ("bfloat16", "tf32") or self.is_ampere_or_later:
            return
        reason = f"{self.device} has compute capability {'.'.join(self._device.compute_capability)}, not 8.0 or later"
        if precision == "bfloat16":
            raise BackendError(f"precision='bfloat16' cannot be used: {reason}. Use precision='float16'")
        if not self._has_told_of_tf32:
            self._has_told_of_tf32 = True
            warn(f"precision='tf32' computes in float32 on this GPU: {reason}", SlowPathWarning)

    # -- running ops ----------------------------------------------------------------------------------------------

    @contextmanager
    def running(self) -> Iterator[None]:
        with self.current(), self.stream:
            yield

    @_on_device
    def bind(self, op: Op, arguments: dict[str, Any]) -> BoundCall:
        self.check(op, arguments)
        (call,) = self._loaded([self._bind_one(op, arguments, is_timed=False)])
        return call

    def _bind_one(self, op: Op, arguments: dict[str, Any], *, is_timed: bool) -> BoundCall:
        """Bind an op, without compiling its kernel."""
        if op.name in ("gemm", TF32):
            return self._bind_gemm(**arguments, tf32=op.name == TF32, is_timed=is_timed)
        return DeviceCall(self._bind_kernel(op.name, op.sizes(arguments), arguments))

    def _loaded(self, calls: list[BoundCall]) -> list[BoundCall]:
        """Return the calls after their kernels are compiled, several at once."""
        launches = [call.launch for call in calls if isinstance(call, DeviceCall) and isinstance(call.launch, _Launch)]
        self._modules.compile((launch.kernel, launch.form) for launch in launches)
        for launch in launches:
            launch.function = self._modules.function(launch.kernel, launch.form)
        return calls

    @_on_device
    def replay(self, calls: list[BoundCall], steps_per_launch: int = 1) -> Replay:
        return self.graphs.replay(calls, steps_per_launch)

    def fastest_way(self, ops: Sequence[Call], members: int, alike: int) -> Way:
        return fastest_way(ops, members, alike, self._device.attributes["MultiProcessorCount"])

    def shape_of(self, ops: Sequence[Call]) -> Hashable:
        return shape_of(ops)

    @_on_device
    def merged(self, programs: Sequence[Sequence[Call]], steps_per_launch: int = 1) -> Replay:
        for call in chain.from_iterable(programs):
            self.check(*call)
        calls: list[BoundCall] = []
        for merged in merged_calls(programs, self.stream, _argument):
            grid, threads = self._grid(merged.kernel, merged.form, merged.values)
            if 0 not in grid:
                blocks, parts = (*grid, 1)[:2]
                of_all = (blocks, parts, len(programs))
                calls.append(DeviceCall(_Launch(merged.kernel, merged.form, of_all, threads, (merged.table,), merged)))
        return self.graphs.replay(self._loaded(calls), steps_per_launch)

    @_on_device
    def block_programs(self, programs: Sequence[Sequence[Call]]) -> CupyBlockPrograms:
        for call in chain.from_iterable(programs):
            self.check(*call)
        return CupyBlockPrograms(programs, self._modules, self.stream, _argument)

    @_on_device
    def bind_all(self, calls: list[Call]) -> list[BoundCall]:
        """Bind the calls of a program, with matmul epilogues doing the work of following calls where possible."""
        signs: dict[int, tuple[Array, FallbackCall]] = {}
        is_training = any(op.name in ("gemm", TF32) and arguments.get("transpose_a") for op, arguments in calls)
        calls = fuse_update_and_copy(fuse_bias_and_activation(calls, kernels("cuda")))
        groups = grouped(fuse_update_and_advance(calls, kernels("cuda")))
        bound = [call for group in groups for call in self._bind_group(group, signs, is_timed=is_training)]
        self.choices.save()
        return self._loaded(bound)

    def _bind_group(
        self, group: Group, signs: dict[int, tuple[Array, FallbackCall]], *, is_timed: bool
    ) -> list[BoundCall]:
        """Bind a group, as one call if possible.

        Args:
            group: a matmul and the calls that follow it.
            signs: the sign bits of the outputs of ReLU, with the call that writes them, by the id of these outputs; a
                forward matmul adds an entry.
            is_timed: True if the fastest way is chosen by time. Programs without weight gradients do not, since the
                shapes of predictions are many.
        """
        for call in group.calls:
            self.check(*call)
        fused = self._bind_fused(group, signs, is_timed)
        return [self._bind_one(*call, is_timed=is_timed) for call in group.calls] if fused is None else [fused]

    def _bind_fused(
        self, group: Group, signs: dict[int, tuple[Array, FallbackCall]], is_timed: bool
    ) -> BoundCall | None:
        """Bind a group as one call; None if that is impossible or slower."""
        if group.epilogue is None:
            return None
        if group.is_narrow:
            return None if group.epilogue == "DGELU" else self._bind_narrow(group)

        def separately() -> list[BoundCall]:
            return self._loaded([self._bind_one(*call, is_timed=is_timed) for call in group.calls])

        auxiliary, source = group.gelu_input, None
        if "RELU_AUX" in group.epilogue:
            auxiliary = self.empty(n_sign_bytes(*group.out.shape), np.uint8)
        elif group.epilogue == "DRELU":
            if id(group.relu_output) not in signs:
                return None
            auxiliary, source = signs[id(group.relu_output)]
        op, arguments = group.calls[0]
        arguments = arguments | {"out": group.out, "vector": group.vector, "auxiliary": auxiliary}
        fast = self.fast_gemm(**arguments, tf32=op.name == TF32, epilogue=group.epilogue, is_timed=is_timed)
        if fast is None or self._is_faster_separately(fast, separately):
            return None
        fused = self._or_else(fast, separately, source)
        if "RELU_AUX" in group.epilogue:
            signs[id(group.relu_output)] = auxiliary, fused
        return fused

    def _is_faster_separately(self, fast: BoundGemm, separately: Callable[[], list[BoundCall]]) -> bool:
        """True if a matmul with its epilogue takes longer than without, and kernels that do the same."""
        name = f"{fast.problem.key}, fused"
        if not fast.problem.is_timed:
            return False
        known = self.choices.known(name)
        if known is not None or not self.choices.is_timing:
            return known == "separate"
        calls = separately()
        if not all(map(is_capturable, calls)):
            return False
        ways: dict[str, Callable[[], list[BoundCall]]] = {"fused": lambda: [fast], "separate": lambda: calls}
        with self.stream:
            return self.choices.choose(name, ways) == "separate"

    def _bind_narrow(self, group: Group) -> BoundCall:
        gemm = group.calls[0][1]
        a, b, out = (gemm[name] for name in ("a", "b", "out"))
        sizes = {"rows": out.shape[0], "columns": out.shape[1]}
        if group.epilogue == "BGRADA":
            arguments = {"a": a, "b": b, "out": out, "sums": group.vector, "inner": len(a)}
            return DeviceCall(self._bind_kernel("narrow_weight_gradient", sizes, arguments))
        sizes["inner"] = a.shape[1]
        arguments = {"a": a, "b": b, "y": group.relu_output, "out": out}
        return DeviceCall(self._bind_kernel("narrow_relu_gradient", sizes, arguments))

    @cached_property
    def _cublaslt(self) -> CublasLt | None:
        """cuBLASLt, initialized when the first matmul is bound; None if that fails."""
        is_hopper_or_later = int(self._device.compute_capability) >= 90
        try:
            workspace = self.empty((32 if is_hopper_or_later else 4) << 20, np.uint8)
            return CublasLt(CublasLtLibrary(), workspace, self.choices)
        except Exception as error:  # a broken installation can raise anything
            self._fast_gemms.give_up(error)
            return None

    @property
    @_on_device
    def gemm_identity(self) -> str | None:
        """Everything the results of fast matmuls depend on: device, driver and versions; None without fast matmuls."""
        if self._cublaslt is None:
            return None
        driver = cupy.cuda.runtime.driverGetVersion()
        return f"{self.device}, driver {driver}, cuBLASLt {self._cublaslt.version}, gradflow {__version__}"

    @property
    def device_number(self) -> int:
        """CUDA's number of the device."""
        return int(self._device.id)

    @property
    def refused_gemms(self) -> dict[str, str]:
        """The classes of matmuls that cuBLASLt must not compute, with the reason."""
        return {} if self._cublaslt is None else self._cublaslt.refused

    def refuse_gemms(self, wrong: dict[str, str]) -> None:
        """Compute classes of matmuls another way from now on, with a warning; ``wrong`` has the reason for each."""
        self.refused_gemms.update(wrong)
        name, error = next(iter(wrong.items()))
        others = f", and {len(wrong) - 1} other classes of matmuls" if len(wrong) > 1 else ""
        warn(
            f"cuBLASLt failed its self-check on this GPU: {name}: {error}{others}. They are computed another way, "
            f"which takes more launches; a newer cuBLAS may help: {pip_install_for_gpu()}",
            SlowPathWarning,
        )

    def without_fast_gemms(self) -> AbstractContextManager[None]:
        """Return a context in which cuBLAS computes the matmuls, without epilogues, for a comparison."""
        return self._fast_gemms.closed()

    @property
    def unsupported_gemms(self) -> dict[str, str]:
        """The matmuls so far that fell back to cuBLAS because cuBLASLt had no plan for them, with the reason."""
        return {} if self._cublaslt is None else self._cublaslt.unsupported

    @_on_device
    def fast_gemm(self, /, *, tf32: bool = False, **arguments: Any) -> BoundGemm | None:
        """Bind a matmul by cuBLASLt; None if it has no plan for it or cannot be used."""
        if self._cublaslt is None or not self._fast_gemms.is_open:
            return None
        try:
            with self.stream:
                return self._cublaslt.gemm(**arguments | {"tf32": tf32 and self.is_ampere_or_later})
        except Exception as error:
            self._fast_gemms.give_up(error)
            return None

    def _bind_gemm(self, a: Array, b: Array, out: Array, *, is_timed: bool, **settings: bool) -> BoundCall:
        def plain() -> list[BoundCall]:
            return [self._bind_plain_gemm(a, b, out, **settings)]

        fast = self.fast_gemm(a=a, b=b, out=out, is_timed=is_timed, **settings)
        if fast is None:
            return plain()[0]  # not a DeviceCall: CuPy does not allow its matmuls to be captured (its issue 6290)
        return self._or_else(fast, plain)

    def _or_else(
        self, fast: BoundGemm, plain: Callable[[], list[BoundCall]], source: FallbackCall | None = None
    ) -> FallbackCall:
        """Return a call of cuBLASLt that others replace if it fails; then no further program uses that matmul."""

        def on_failure(error: Exception) -> None:
            if self._cublaslt is not None:
                self._cublaslt.give_up(fast.problem, error)
            if not self._has_told_of_failure:
                self._has_told_of_failure = True
                warn(
                    f"cuBLASLt failed to compute a matmul, {fast.problem} ({type(error).__name__}: {error}). Such ones "
                    f"are computed another way, which takes more launches; a newer cuBLAS may help: "
                    f"{pip_install_for_gpu()}",
                    SlowPathWarning,
                )

        return FallbackCall(self._fast_gemms, fast, plain, on_failure, source)

    def _bind_plain_gemm(
        self, a: Array, b: Array, out: Array, transpose_a: bool = False, transpose_b: bool = False, tf32: bool = False
    ) -> BoundCall:
        """Bind a matmul by cuBLAS, in float32 if the arrays have 16 bits."""
        wide = [self.empty(array.shape, np.float32) if array.itemsize == 2 else array for array in (a, b, out)]
        copies = [(a, wide[0]), (b, wide[1]), (wide[2], out)]
        # cupy.matmul would use a slow kernel for matrices with one row or one column.
        operations = ("T" if transpose_a else "N", "T" if transpose_b else "N")
        gemm = partial(cupy.cublas.gemm, *operations, wide[0], wide[1], out=wide[2])
        *before, after = [self.bind(copy, {"x": x, "y": y}) if x is not y else None for x, y in copies]
        return partial(_run_in_turn, [call for call in (*before, gemm, after) if call is not None])

    def _bind_kernel(self, name: str, sizes: Mapping[str, int], arguments: Mapping[str, Any]) -> BoundCall:
        is_ending = name.endswith(ENDING)
        name = name.removesuffix(ENDING).removesuffix(MIRRORED)
        if name not in kernels("cuda"):
            raise BackendError(f"op {name!r} has no CUDA kernel: expected GF_KERNEL({name}, ...) in kernels/*.cu")
        kernel = kernels("cuda")[name]
        values = {**sizes, **arguments}
        form = _form(kernel, values, is_ending=is_ending)
        packed: list[Any] = []
        for parameter in kernel.parameters:
            packed.append(_argument(kernel, parameter, values[parameter.name], form))
            if parameter.name == "parameters" and form.is_mirrored:
                packed.append(values["copies"])
        if is_ending:
            values["arrived"] = self._arrived
            packed += [_argument(kernel, parameter, values[parameter.name], form) for parameter in ENDING_PARAMETERS]
        grid, threads = self._grid(kernel, form, values)
        if 0 in grid and not is_ending:
            return lambda: None
        return _Launch(kernel, form, tuple(max(blocks, 1) for blocks in grid), threads, tuple(packed))

    def _grid(self, kernel: Kernel, form: Form, values: Mapping[str, Any]) -> tuple[tuple[int, ...], int]:
        """Return the blocks and the threads of a block with which a kernel is launched (kernels/gradflow.h)."""
        names = {parameter.name for parameter in kernel.parameters}
        if kernel.name in _LAUNCHES:
            blocks, threads = _LAUNCHES[kernel.name](values)
            return (blocks,), threads
        if kernel.loop == "COLUMN_BLOCKS":
            return (-(-values["columns"] // 32),), 1024
        if "rows" not in names:
            work = -(-values["n"] // 4) if "n" in names else 1
            return (min(-(-work // _THREADS), self._most_blocks),), _THREADS
        if form.is_wide:
            return (min(values["rows"], self._most_blocks),), WIDE_ROW_THREADS
        blocks = min(-(-32 * values["rows"] // _THREADS), self._most_blocks)
        if kernel.reduces_rows or blocks == 0:
            return (blocks,), _THREADS
        # So few rows that blocks are left share them out by columns.
        parts = min(-(-_width(values) // _PART_OF_ROW), self._most_blocks // blocks)
        return (blocks, max(parts, 1)), _THREADS

    @cached_property
    def _arrived(self) -> Array:
        """The number of blocks that have arrived at the end of a step; 0 between kernels."""
        return self.zeros(1, np.uint32)


class _Launch:
    """A kernel with its arguments; its function is set when it is compiled.

    Args:
        kernel: the kernel.
        form: its form.
        grid: its blocks.
        threads: the threads of a block.
        arguments: its arguments.
        owner: owns the arrays that an argument points to.
    """

    function: Any = None

    def __init__(
        self,
        kernel: Kernel,
        form: Form,
        grid: tuple[int, ...],
        threads: int,
        arguments: tuple[Any, ...],
        owner: object = None,
    ) -> None:
        self.kernel = kernel
        self.form = form
        self._grid = grid
        self._threads = threads
        self._arguments = arguments
        self._owner = owner

    def __call__(self) -> None:
        self.function(self._grid, (self._threads,), self._arguments)


def _form(kernel: Kernel, values: Mapping[str, Any], *, is_ending: bool) -> Form:
    reals = [parameter.name for parameter in kernel.parameters if parameter.is_pointer and parameter.c_type == "real"]
    dtypes = {name: values[name].dtype.name for name in reals if values[name] is not None}
    low = frozenset(name for name in dtypes if values[name].itemsize == 2)
    copies = values.get("copies")
    is_wide = kernel.reduces_rows and kernel.loop == "ROWS" and _width(values) >= _WIDE_ROW
    if low or copies is not None:
        low_dtype = (values[min(low)] if copies is None else copies).dtype.name
        return Form("float32", low_dtype, low, is_mirrored=copies is not None, is_ending=is_ending, is_wide=is_wide)
    return Form(next(iter(dtypes.values()), "float32"), is_ending=is_ending, is_wide=is_wide)


def _width(values: Mapping[str, Any]) -> int:
    """Return the number of elements of a row, by the sizes that kernels have."""
    return max(int(values.get(name, 0)) for name in ("columns", "chunk", "batch_rows", "x_words", "row_words"))


def _argument(kernel: Kernel, parameter: Parameter, value: Any, form: Form) -> Any:
    """Return an argument for a kernel: the array itself, a null pointer, or a scalar of the right type.

    Raises:
        BackendError: if an array has another dtype than the kernel expects.
    """
    name = parameter.dtype(form.real)
    if not parameter.is_pointer:
        return np.dtype(name).type(value)
    if value is None:
        return np.uintp(0)
    if parameter.name in form.low and form.low_dtype is not None:
        name = form.low_dtype
    if value.dtype.name != name and not (parameter.c_type == "gf_word" and value.itemsize % 4 == 0):
        raise BackendError(f"kernel {kernel.name!r}: argument {parameter.name!r} must be {name}, got {value.dtype}")
    return value


def _run_in_turn(calls: list[BoundCall]) -> None:
    for call in calls:
        call()
