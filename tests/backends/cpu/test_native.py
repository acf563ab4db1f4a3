"""The compiled kernels: a whole step runs in them, in one call, and leaves the process around it unchanged."""

from __future__ import annotations

import ctypes
import gc
import itertools
import json
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf
from gradflow.backends import get_backend
from gradflow.backends.cpu import native, native_program
from gradflow.backends.cpu.backend import NumpyBackend
from gradflow.backends.cpu.native import NativeLibrary, native_library
from gradflow.backends.cpu.native_call import NativeCall
from gradflow.backends.cpu.native_program import NativeProgram
from gradflow.layers import ACTIVATIONS
from gradflow.losses import LOSSES
from gradflow.ops import OPS
from gradflow.optimizers import OPTIMIZERS
from gradflow.optimizers.base import hyper_vector
from gradflow.program import Program, Recorder
from gradflow.testing import CASES, Draw
from gradflow.training.step import epoch, evaluation, training_step
from tests.cli.command import environment

FILES = sorted(Path(native.__file__).parent.glob("_native*.so"))

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 12)).astype(np.float32)
LABELS = RNG.integers(0, 5, 200)
ONE_HOT = np.eye(5, dtype=np.float32)[LABELS]


@pytest.fixture
def library() -> NativeLibrary:
    if not FILES or os.environ.get("GRADFLOW_NATIVE") == "0":
        pytest.skip("the C kernels were not built, or are left out")
    found = native_library()
    assert found is not None, f"{FILES[0]} does not load"
    return found


@pytest.fixture
def programs(library: NativeLibrary, monkeypatch: pytest.MonkeyPatch) -> list[Program]:
    """All programs that are recorded."""
    recorded: list[Program] = []

    class Collector(Recorder):
        def program(self, steps_per_launch: int = 1) -> Program:
            recorded.append(super().program(steps_per_launch))
            return recorded[-1]

    for module in (epoch, evaluation, training_step):
        monkeypatch.setattr(module, "Recorder", Collector)
    return recorded


def trained(
    loss: str = "softmax_cross_entropy",
    optimizer: Any = "adam",
    seed: int = 3,
    hidden: Sequence[int] = (20, 16),
    dtype: str = "float32",
    library: NativeLibrary | None = None,
    **settings: Any,
) -> bytes:
    """Return the parameters after several steps."""
    y = LABELS if loss == "softmax_cross_entropy" else ONE_HOT
    network = gf.MLP([12, *hidden, 5], dropout=0.1, seed=seed, dtype=dtype, backend="numpy")
    if library is not None:
        network.backend = NumpyBackend(library)
    gf.Trainer(network, loss, optimizer, **settings).fit(X, y, epochs=4, batch_size=32, progress=False)
    return np.array(network.parameters).tobytes()


def python(code: str, **changes: str) -> str:
    """Return the output of Python running code in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore:other work on the processors held training back", "-c", code],
        env=environment(**changes),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- one call into C --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", OPS)
def test_every_op_is_bound_to_a_kernel(library: NativeLibrary, op: str, dtype: str) -> None:
    for variant in CASES[op].variants:
        assert library.bind(OPS[op], CASES[op].make(Draw(dtype, "odd", "ordinary"), **variant)) is not None


def assert_each_is_one_native_call(programs: list[Program], library: NativeLibrary) -> None:
    if library.blas is None:
        pytest.skip("no BLAS was found that C can call")
    assert programs
    for program in programs:
        assert [type(call) for call in program._calls] == [NativeProgram]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS.keys() - {"lbfgs"}))  # takes no steps
def test_a_step_is_one_native_call(library: NativeLibrary, programs: list[Program], loss: str, optimizer: str) -> None:
    trained(loss, optimizer, l2=1e-3, clip_norm=1.0)
    # A full batch, a smaller one, and the sums of the epoch.
    assert len(programs) == 3
    assert_each_is_one_native_call(programs, library)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_it_works_with_every_activation(
    library: NativeLibrary, programs: list[Program], activation: str, dtype: str
) -> None:
    network = gf.MLP([12, 20, 5], activation, dtype=dtype, backend="numpy")
    gf.Trainer(network, "softmax_cross_entropy", "sgd").fit(
        X, ONE_HOT, epochs=1, batch_size=32, shuffle=False, validation_data=(X, ONE_HOT), progress=False
    )
    assert len(programs) == 5
    assert_each_is_one_native_call(programs, library)


# -- what a step leaves unchanged --------------------------------------------------------------------------------------


def test_a_thousand_steps_allocate_no_arrays_and_keep_nothing(library: NativeLibrary, programs: list[Program]) -> None:
    network = gf.MLP([12, 20, 16, 5], dropout=0.1, backend="numpy")
    # A whole number of batches: the step then cycles through the data alone.
    gf.Trainer(network, "softmax_cross_entropy", "adam").fit(
        X[:192], LABELS[:192], epochs=1, batch_size=64, progress=False
    )
    step = programs[0]
    for _ in range(10):
        step.run()
    gc.collect()
    tracemalloc.start()
    try:
        step.run()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(1000):
            step.run()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The counting itself may keep an integer or two. The smallest array of a batch is 64 x 5 x 4 bytes.
    assert after - before < 100
    assert peak - before < 1280


FLOATING_POINT = """
import ctypes, json, threading
import numpy as np

libm = ctypes.CDLL("libm.so.6")

def state():
    "Rounding, masks, flush-to-zero and denormals-are-zero, without the flags that every inexact result sets."
    environment = ctypes.create_string_buffer(64)
    libm.fegetenv(environment)
    return int.from_bytes(environment.raw[28:32], "little") & ~0x3F

states = [state()]
import gradflow as gf
from gradflow.backends.cpu.native import native_library
loaded = native_library() is not None
x = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
trainer = gf.Trainer(gf.MLP([5, 8, 3], "tanh", backend="numpy"), "softmax_cross_entropy", "adam")
trainer.fit(x, np.arange(64) % 3, epochs=2, progress=False)
states.append(state())
thread = threading.Thread(target=lambda: states.append(state()))
thread.start()
thread.join()
denormal = float(np.float32(1e-40) * np.float32(1))
libm.fesetround(0xC00)  # toward zero: a state of the caller's own, which is restored too
of_caller = [state()]
trainer.fit(x, np.arange(64) % 3, epochs=1, progress=False)
of_caller.append(state())
print(json.dumps([loaded, states, of_caller, denormal]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the floating-point environment of glibc")
def test_the_floating_point_state_of_the_process_is_untouched(library: NativeLibrary) -> None:
    loaded, states, of_caller, denormal = json.loads(python(FLOATING_POINT))
    assert loaded
    assert len(set(states)) == 1
    assert of_caller[0] == of_caller[1] != states[0]
    assert denormal == float(np.float32(1e-40)) > 0


def test_nan_and_infinity_are_kept(library: NativeLibrary) -> None:
    backend = NumpyBackend(library)
    x = np.array([[np.nan, np.inf, -np.inf, 1.0]], np.float32)
    for name in ("relu_forward", "tanh_forward", "sigmoid_forward", "copy"):
        y = np.empty_like(x)
        backend.bind(OPS[name], {"x": x, "y": y})()
        expected = np.empty_like(x)
        with get_backend("reference").running():
            OPS[name].reference(x, expected)
        assert_array_equal(np.isnan(y), [[True, False, False, False]], name)
        assert_allclose(y, expected, rtol=4 * np.finfo(np.float32).eps, err_msg=name)


# -- instruction sets -------------------------------------------------------------------------------------------------


def test_instruction_sets_agree(library: NativeLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    def gradients(instructions: str) -> np.ndarray:
        network = gf.MLP([12, 20, 16, 5], "tanh", backend="numpy", seed=1)
        network.backend = NumpyBackend(NativeLibrary(library.path, library.blas, instructions))
        trainer = gf.Trainer(network, "softmax_cross_entropy", gf.GradientDescent(0.1))
        trainer.fit(X, LABELS, epochs=1, batch_size=None, progress=False)
        return np.array(network.gradients)

    fastest, *others = (gradients(instructions) for instructions in library.supported)
    # Both use the same BLAS for the GEMMs. The rounding of two tanh (3 ulp each) and of the sums passes through two
    # layers: 32 ulp of the largest gradient bounds it with room to spare, and a wrong lane would be off by its whole
    # size.
    allowed = 32 * np.spacing(abs(fastest).max())
    for other in others:
        assert_allclose(other, fastest, rtol=0, atol=allowed)


# -- kernels on several threads ---------------------------------------------------------------------------------------

tells_three = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 3)


@pytest.fixture
def threaded(library: NativeLibrary, monkeypatch: pytest.MonkeyPatch) -> NativeLibrary:
    """The library with three threads for its kernels, however many cores the machine has."""
    monkeypatch.setattr(native_program, "processors", lambda: 3)
    several = NativeLibrary(library.path, library.blas)
    several.threads_address = ctypes.cast(tells_three, ctypes.c_void_p).value
    return several


def stay_at(program: NativeProgram, level: int) -> None:
    """Make a program run on 2 ** level threads (at most three), without trying other numbers."""
    program.pace.level = program.pace.tried = level
    program.pace.rest = 2**31 - 1
    for other in range(5):  # as if only this level had been measured
        program.pace.seconds[other] = 1e-3 if other == level else 0


def on_three_threads(library: NativeLibrary, call: NativeCall) -> NativeProgram:
    """A program of one call that is cut as finely as it can be."""
    call.call.part, call.cost = 1, 1 << 30
    program = library.program([call])
    stay_at(program, 2)
    return program


@pytest.mark.parametrize("awake", [True, False], ids=["awake", "asleep"])
@pytest.mark.parametrize("op", OPS)
def test_parts_on_several_threads_have_the_bits_of_one(
    op: str, awake: bool, library: NativeLibrary, threaded: NativeLibrary
) -> None:
    for variant in CASES[op].variants:
        results = []
        for is_threaded in (False, True):
            arguments = CASES[op].make(Draw("float32", "large", "ordinary"), **variant)
            call = threaded.bind(OPS[op], arguments)
            assert call is not None
            call.footprint = call.footprint._replace(is_lonely=not awake)
            if is_threaded:
                on_three_threads(threaded, call)()
            else:
                alone = library.program([call])
                stay_at(alone, 0)
                alone()
            results.append({name: value for name, value in arguments.items() if isinstance(value, np.ndarray)})
        for name, expected in results[0].items():
            assert results[1][name].tobytes() == expected.tobytes(), name


@pytest.mark.parametrize("columns", [1, 63, 64, 65, 128, 320, 321])
def test_column_sums_are_added_row_by_row(columns: int, threaded: NativeLibrary) -> None:
    """Whole blocks of columns and the rest are compiled apart; the order of the sum is the same, for any of them."""
    x = RNG.normal(size=(7, columns)) * 10.0 ** RNG.integers(-4, 4, (7, columns))
    sums, expected = np.empty(columns), np.zeros(columns)
    for row in x:
        expected += row
    call = threaded.bind(OPS["column_sum"], {"x": x, "sums": sums})
    assert call is not None
    threaded.program([call])()
    assert_array_equal(sums, expected)


def row_calls(library: NativeLibrary, op: str, times: int) -> Iterator[list[tuple[NativeCall, dict[str, Any]]]]:
    """The calls of an op's cases that can be split by rows, each bound several times to equal arguments."""
    for variant, dtype in itertools.product(CASES[op].variants, ("float32", "float64")):
        bound = []
        for _ in range(times):
            arguments = CASES[op].make(Draw(dtype, "large", "ordinary"), **variant)
            call = library.bind(OPS[op], arguments)
            if call is not None and call.footprint.rows > 1:
                bound.append((call, arguments))
        if bound:
            yield bound


def run_alone(library: NativeLibrary, call: NativeCall) -> None:
    program = library.program([call])
    stay_at(program, 0)
    program()


@pytest.mark.parametrize("op", OPS)
def test_rows_on_several_threads_have_the_bits_of_the_whole(op: str, threaded: NativeLibrary) -> None:
    for (whole, expected), (call, arguments) in row_calls(threaded, op, 2):
        run_alone(threaded, whole)
        program = on_three_threads(threaded, call)
        program._phases[0].rows, program._phases[0].part = call.footprint.rows, 1
        program()
        for name, value in expected.items():
            if isinstance(value, np.ndarray):
                assert arguments[name].tobytes() == value.tobytes(), name


@pytest.mark.parametrize("op", OPS)
def test_a_row_depends_on_no_other_row_of_arrays_that_are_split(op: str, threaded: NativeLibrary) -> None:
    for (call, arguments), (changed_call, changed) in row_calls(threaded, op, 2):
        half = call.footprint.rows // 2
        by_row = {use.begin: use for use in changed_call.footprint.uses if use.is_by_row}
        written = []
        for name, array in changed.items():
            use = by_row.get(array.ctypes.data) if isinstance(array, np.ndarray) else None
            if use is not None and name != "clock":
                assert len(array) == call.footprint.rows, name
                array[half:] = array[half:][::-1].copy()
                if use.is_written:
                    written.append(name)
        for of_arguments in (call, changed_call):
            run_alone(threaded, of_arguments)
        for name in written:
            assert arguments[name][:half].tobytes() == changed[name][:half].tobytes(), name


@pytest.mark.parametrize("hidden", [[64, 64], [256, 128]])
def test_training_on_several_threads_has_the_bits_of_one(
    hidden: list[int], library: NativeLibrary, threaded: NativeLibrary
) -> None:
    alone = NativeLibrary(library.path, library.blas)
    alone.threads_address = None
    assert trained(library=threaded, hidden=hidden) == trained(library=alone, hidden=hidden)


@pytest.mark.parametrize("hidden", [[64, 64], [256, 128]])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_programs_that_change_their_number_of_threads_have_the_bits_of_one(
    hidden: list[int], dtype: str, library: NativeLibrary, threaded: NativeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step runs on one, two or three threads, as it comes."""
    alone = NativeLibrary(library.path, library.blas)
    alone.threads_address = None
    expected = trained(library=alone, hidden=hidden, dtype=dtype)
    run, random, used = NativeProgram.__call__, Random(0), set()

    def changing(program: NativeProgram, times: int = 1) -> None:
        for _ in range(times):
            level = random.randrange(3)
            stay_at(program, level)
            run(program)
            used.add(level)

    monkeypatch.setattr(NativeProgram, "__call__", changing)
    for _ in range(5):
        assert trained(library=threaded, hidden=hidden, dtype=dtype) == expected
    assert used == {0, 1, 2}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_thread_flushes_subnormal_numbers(dtype: str, threaded: NativeLibrary) -> None:
    """Moments that decay end at zero; otherwise late epochs would take several times as long as the first."""
    n = 300_000
    decaying = np.full(n, 1.5 * np.finfo(dtype).smallest_normal, dtype)
    first, second = decaying.copy(), decaying.copy()
    arguments = {
        "parameters": np.ones(n, dtype),
        "gradients": np.zeros(n, dtype),
        "first_moment": first,
        "second_moment": second,
        "hyper": hyper_vector(gf.Adam(beta1=0.5, beta2=0.5).hyper(), learning_rate=1e-3),
        "gradient_scale": np.ones(1, dtype),
        "clock": np.array([1, 0, 0, 2**62]),
        "n_decayed": 0,
    }
    call = threaded.bind(OPS["adam"], arguments)
    assert call is not None
    program = on_three_threads(threaded, call)
    for _ in range(50):  # in a few, at least, a thread of the team does a part
        for moment in (first, second):
            moment[...] = decaying
        program()
        assert_array_equal(first, 0)
        assert_array_equal(second, 0)


def test_threads_sleep_when_nothing_runs(threaded: NativeLibrary) -> None:
    trained(library=threaded, hidden=[256, 128])
    before = time.process_time()
    time.sleep(0.5)
    # Any thread that did not sleep would have used a large part of the half second.
    assert time.process_time() - before < 0.1


@pytest.mark.skipif(sys.platform != "linux", reason="counts the threads in /proc")
def test_one_thread_means_one_thread() -> None:
    code = """
import os
import numpy as np, gradflow as gf
x = np.ones((512, 64), np.float32)
x.T @ x
before = len(os.listdir("/proc/self/task"))
gf.Trainer(gf.MLP([64, 256, 10], backend="numpy"), "softmax_cross_entropy", "adam", threads=1).fit(
    x, np.zeros(512, int), epochs=9, batch_size=64, progress=False
)
print(len(os.listdir("/proc/self/task")) - before)
"""
    assert python(code).split() == ["0"]


# -- threads and processes --------------------------------------------------------------------------------------------


def test_python_runs_while_a_native_call_does(library: NativeLibrary) -> None:
    if library.blas is None:
        pytest.skip("no BLAS was found that C can call")
    a = np.ones((700, 700))
    bound = library.bind(OPS["gemm"], OPS["gemm"].arguments(a, a, np.empty_like(a)))
    assert bound is not None
    turns, has_ended = [0], threading.Event()

    def count() -> None:
        while not has_ended.is_set():
            turns[0] += 1
            time.sleep(1e-4)

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=count)
    thread.start()
    try:
        sys.setswitchinterval(3600)  # so that Python's lock only goes to the other thread where it is given up
        for doubled in range(12):  # a busy machine may not run the other thread during a short call
            program = library.program([bound] * 2**doubled)
            before = turns[0]
            program()
            if turns[0] > before:
                break
        assert turns[0] > before
    finally:
        sys.setswitchinterval(interval)
        has_ended.set()
        thread.join()


@pytest.mark.parametrize("hidden", [[20, 16], [256, 128]], ids=["narrow", "wide enough for several threads each"])
def test_several_threads_train_to_the_bits_of_serial_runs(hidden: list[int], library: NativeLibrary) -> None:
    serial = [trained(seed=seed, hidden=hidden) for seed in range(4)]
    parallel: dict[int, bytes] = {}

    def train(seed: int) -> None:
        parallel[seed] = trained(seed=seed, hidden=hidden)

    threads = [threading.Thread(target=train, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert [parallel[seed] for seed in range(4)] == serial
    assert len(set(serial)) == 4


FORK = """
import multiprocessing, os, sys, warnings
import numpy as np
import gradflow as gf
# Newer Pythons warn of any fork beside threads, and the BLAS has some.
warnings.filterwarnings("ignore", category=DeprecationWarning)

x = np.random.default_rng(0).normal(size=(600, 256)).astype(np.float32)

def trained(_):
    parameters = b""
    for hidden, batch_size in ((512, 200), (64, 64)):  # for threads of the BLAS, and for gradflow's own
        network = gf.MLP([256, hidden, 10], backend="numpy")
        gf.Trainer(network, "softmax_cross_entropy", "adam").fit(
            x, np.arange(600) % 10, epochs=3, batch_size=batch_size, progress=False
        )
        parameters += np.array(network.parameters).tobytes()
    return parameters

before = trained(0)
child = os.fork()
if child == 0:
    os._exit(0 if trained(0) == before else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert set(pool.map(trained, range(4))) == {before}
assert trained(0) == before
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_trains_to_the_same_bits(library: NativeLibrary) -> None:
    python(FORK)


# -- without kernels ---------------------------------------------------------------------------------------------------


SMALL_STACK = """
import threading
import numpy as np
import gradflow as gf

dtype = {dtype!r}
x = np.random.default_rng(0).normal(size=(500, 200)).astype(dtype)
y = (x[:, 0] > 0).astype(int)

def train():
    network = gf.MLP([200, 100, 2], seed=1, dtype=dtype, backend="numpy")
    gf.Trainer(network, "softmax_cross_entropy", "adam").fit(x, y, epochs=2, batch_size=40)
    found.append(network.predict(x))

found = []
train()
threading.stack_size({kib} * 1024)
thread = threading.Thread(target=train)
thread.start()
thread.join()
print(np.array_equal(*found))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="stacks grow there")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("instructions", native.INSTRUCTIONS)
def test_threads_with_a_small_stack_train_and_predict(library: NativeLibrary, instructions: str, dtype: str) -> None:
    """The default of musl is 128 KiB."""
    if instructions not in library.supported:
        pytest.skip(f"this processor cannot run the kernels for {instructions}")
    for kib in (128, 64):
        assert python(SMALL_STACK.format(dtype=dtype, kib=kib), GRADFLOW_NATIVE=instructions) == "True\n"


def test_the_environment_variable_leaves_the_kernels_out() -> None:
    code = """
import numpy as np, gradflow as gf
from gradflow.backends.cpu.native import native_library
digits = gf.data.load_digits()
trainer = gf.Trainer(gf.MLP([64, 32, 10], backend="numpy"), "softmax_cross_entropy", gf.Adam(0.01))
trainer.fit(digits.x_train, digits.y_train, epochs=3, progress=False)
print(native_library() is None, trainer.evaluate(digits.x_test, digits.y_test)["accuracy"] > 0.8)
"""
    assert python(code, GRADFLOW_NATIVE="0").split() == ["True", "True"]


def test_the_environment_variable_chooses_among_the_instruction_sets(library: NativeLibrary) -> None:
    code = "import gradflow as gf; print(gf.MLP([2, 2], backend='numpy').backend.native.instructions)"
    for instructions in library.supported:
        assert python(code, GRADFLOW_NATIVE=instructions).split() == [instructions]
    assert python(code, GRADFLOW_NATIVE="").split() == library.supported[:1]


@pytest.mark.parametrize(
    ("wish", "supported", "says"),
    [
        ("avx512", ["avx2", "baseline"], "GRADFLOW_NATIVE=avx512 cannot be used: .* have avx2, baseline; name one of"),
        ("off", ["avx2", "baseline"], r"GRADFLOW_NATIVE must be 0 .* got 'off'; unset it for the fastest"),
    ],
)
def test_instructions_that_cannot_be_used_are_refused(
    wish: str, supported: list[str], says: str, library: NativeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = SimpleNamespace(supported=supported)
    monkeypatch.setattr("gradflow.backends.cpu.native.NativeLibrary", lambda *arguments: loaded)
    monkeypatch.setenv("GRADFLOW_NATIVE", wish)
    with pytest.raises(gf.BackendError, match=says):
        native_library.__wrapped__()


def test_instructions_named_without_compiled_kernels_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradflow.backends.cpu.native.__file__", str(tmp_path / "native.py"))
    monkeypatch.setenv("GRADFLOW_NATIVE", "avx2")
    with pytest.raises(gf.BackendError, match="GRADFLOW_NATIVE=avx2 cannot be used: the compiled kernels were not"):
        native_library.__wrapped__()


@pytest.mark.parametrize("size", [3, 110])
@pytest.mark.parametrize("wrong", ["a", "b", "out"])
def test_gemms_of_mixed_types_are_left_to_numpy(wrong: str, size: int, library: NativeLibrary) -> None:
    arrays = {name: np.ones((size, size), np.float32) for name in ("a", "b", "out")}
    arrays[wrong] = arrays[wrong].astype(np.float64)
    assert library.bind(OPS["gemm"], OPS["gemm"].arguments(**arrays)) is None


def test_a_library_of_other_kernels_is_ignored(library: NativeLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a clone after a pull: a kernel with a new argument would read whatever comes after the old ones."""
    monkeypatch.setattr("gradflow.backends.cpu.native.fingerprint", lambda: "others")
    monkeypatch.delenv("GRADFLOW_NATIVE", raising=False)
    with pytest.raises(OSError, match="built from other kernel sources"):
        NativeLibrary(library.path, None)
    assert native_library.__wrapped__() is None
