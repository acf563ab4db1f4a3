"""Invalid values for every parameter of the public API, one at a time: each raises an error with a message of
gradflow's own.

Callables and parameters are found by inspection, so that new ones are covered as soon as they are public.
"""

from __future__ import annotations

import contextlib
import dis
import inspect
import io
import os
import re
import shutil
import signal
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas
import pytest
import scipy.sparse

import gradflow as gf
from gradflow.data.profiles import ColumnProfile
from gradflow.data.where import Where
from gradflow.mlp import NumberEmbedding
from gradflow.output_scale import OutputScale
from gradflow.training.progress.history import History

PACKAGE = str(Path(gf.__file__).parent) + os.sep
X = np.random.default_rng(0).normal(size=(12, 3))
Y = np.arange(12) % 2
RANDOM_Y = np.random.default_rng(1).normal(size=(12, 2))  # numbers for the outputs of an untrained network
MODULES = (gf, gf.data, gf.metrics, gf.inspect)
SECONDS = 60
MEMORY = 2**30


class Unprintable:
    def __repr__(self) -> str:
        return "Unprintable()"

    def __bool__(self) -> bool:
        raise RuntimeError("it has no truth value")


def nested() -> list[Any]:
    values: list[Any] = []
    values.append(values)
    return values


WRONG: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "'no'": lambda: "no",
    "''": lambda: "",
    "'a\\0b'": lambda: "a\0b",
    "a long text": lambda: "x" * 100_000,
    "b'x'": lambda: b"x",
    "-1": lambda: -1,
    "0": lambda: 0,
    "1.5": lambda: 1.5,
    "2**70": lambda: 2**70,
    "10**400": lambda: 10**400,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "1e308": lambda: 1e308,
    "True": lambda: True,
    "1j": lambda: 1j,
    "Fraction": lambda: Fraction(1, 3),
    "[]": list,
    "[1]": lambda: [1],
    "['a']": lambda: ["a"],
    "[None]": lambda: [None],
    "[[1], [1, 2]]": lambda: [[1], [1, 2]],
    "a list in itself": nested,
    "(1, 2, 3, 4)": lambda: (1, 2, 3, 4),
    "[2**40, 2**40]": lambda: [2**40, 2**40],
    "[2**31 - 1, 2**30]": lambda: [2**31 - 1, 2**30],
    "[2**62, 1]": lambda: [2**62, 1],
    "{}": dict,
    "{'a': 1}": lambda: {"a": 1},
    "{0: None}": lambda: {0: None},
    "{1, 2}": lambda: {1, 2},
    "object()": object,
    "no truth": Unprintable,
    "int": lambda: int,
    "print": lambda: print,
    "lambda": lambda: lambda *arguments: None,
    "math": lambda: types,
    "array(3)": lambda: np.array(3),
    "array of (2, 0)": lambda: np.zeros((2, 0)),
    "array of text": lambda: np.array(["a"]),
    "array of objects": lambda: np.array([None, {}], object),
    "array of nan": lambda: np.full((12, 3), np.nan),
    "array of times": lambda: np.array(["2020-01-01"], "datetime64[D]"),
    "masked array": lambda: np.ma.array([1.0, 2.0], mask=[True, False]),
    "float64 nan": lambda: np.float64("nan"),
    "int64 -1": lambda: np.int64(-1),
    "sparse": lambda: scipy.sparse.csr_matrix(np.eye(3)),
    "DataFrame": lambda: pandas.DataFrame({"a": [1]}),
    "NA": lambda: pandas.NA,
    "Adam": lambda: gf.Adam,
    "JSONLines": lambda: gf.JSONLines,
    "ReLU": lambda: gf.ReLU,
    "Adam()": gf.Adam,
    "ReLU()": gf.ReLU,
    "missing path": lambda: Path("missing/file"),
    "folder": lambda: "folder",
    "empty file": lambda: Path("empty"),
    "generator": lambda: (value for value in (1, 2)),
}  # fmt: skip


class Subject(NamedTuple):
    """A public callable, its required arguments, and the network that no refused call may change."""

    function: Callable[..., Any]
    arguments: dict[str, Any]
    network: gf.Sequential | None = None


def network() -> gf.Sequential:
    return gf.Sequential([gf.Dense(3, 4), gf.BatchNorm(4), gf.Tanh(), gf.Dense(4, 2)], seed=1, backend="numpy")


def trainer(of: gf.Sequential) -> gf.Trainer:
    return gf.Trainer(of, "softmax_cross_entropy", gf.Adam())


def history() -> History:
    made = History()
    made.append({"loss": 1.0, "val_loss": 2.0})
    return made


# Values for parameters without a default, by name, or by "callable.name" if that name has several meanings.
REQUIRED: dict[str, Callable[[], Any]] = {
    "Arrays.y": lambda: Y,
    "Each.values": lambda: [1],
    "Pack.trainers": lambda: [trainer(network())],
    "Batches.iterable": lambda: [(X, Y)],
    "MLP.sizes": lambda: [3, 4, 2],
    "Increasing.size": lambda: 3,
    "select_members.network": lambda: gf.TabM([3, 4, 2], members=2),
    "with_members.network": lambda: gf.TabM([3, 4, 2], members=2),
    "with_members.members": lambda: [1],
    "Residual.layers": lambda: [gf.Dense(3, 3)],
    "TabM.sizes": lambda: [3, 4, 2],
    "Sequential.layers": lambda: [gf.Dense(3, 3)],
    "activation": lambda: "selu",
    "bins": lambda: [[0, 1, 2]],
    "append.values": lambda: {"loss": 1.0},
    "CSV.path": lambda: "data.csv",
    "open_file.path": lambda: "data.csv",
    "Parquet.path": lambda: "data.parquet",
    "Arrow.path": lambda: "data.arrow",
    "load.path": lambda: "model.safetensors",
    "column": lambda: gf.data.profile(gf.data.CSV("data.csv", target=None))["a"],
    "source": lambda: gf.data.CSV("data.csv", target=None),
    "targets": lambda: [gf.data.profile(gf.data.CSV("data.csv", target=None))["a"]],
    "data": lambda: X,
    "epochs": lambda: 1,
    "every": lambda: 2,
    "factor": lambda: 0.5,
    "file": lambda: sys.stdout,
    "first": lambda: "run",
    "folder": lambda: "run",
    "histories": lambda: {"a": history()},
    "layers": lambda: [gf.Dense(3, 3)],
    "learning_rate": lambda: 0.1,
    "loss": lambda: "softmax_cross_entropy",
    "losses": lambda: "softmax_cross_entropy",
    "metrics": lambda: ["f1"],
    "n_in": lambda: 3,
    "n_out": lambda: 2,
    "network": network,
    "networks": lambda: [network()],
    "feature_names.names": lambda: None,
    "classes.names": lambda: None,
    "frozen.places": lambda: [0],
    "__getitem__.name": lambda: "loss",
    "norms": lambda: {"a": {"0.weight": 1.0}},
    "optimizer": lambda: "adam",
    "optimizers": lambda: "adam",
    "output_activation.name": lambda: "softmax",
    "path": lambda: "written",
    "place": lambda: 0,
    "precision.name": lambda: "tf32",
    "preprocessing": lambda: gf.data.fit_preprocessing(X),
    "rate": lambda: 0.5,
    "scale": lambda: None,
    "second": lambda: "run",
    "set_weights.weights": lambda: network().get_weights(),
    "tables": lambda: [(3, 2)],
    "target": lambda: "c",
    "trainer": lambda: trainer(network()),
    "x": lambda: X,
    "y": lambda: Y,
}  # fmt: skip

# Arguments that keep calls short, or are needed together with the others.
PREFERRED: dict[str, dict[str, Callable[[], Any]]] = {
    "Trainer.fit": {"y": lambda: Y, "progress": lambda: False, "batch_size": lambda: 4},
    "Pack.fit": {"y": lambda: Y, "progress": lambda: False, "batch_size": lambda: 4},
    "Ensemble.selected": {"y": lambda: RANDOM_Y},
    "Ensemble.scores": {"y": lambda: RANDOM_Y},
    "fit_many": {"y": lambda: Y},
    "Trainer.evaluate": {"y": lambda: Y},
    "Trainer.partial_fit": {"y": lambda: Y},
    "learning_rate_range_test": {"y": lambda: Y, "steps": lambda: 10, "batch_size": lambda: 4},
    "repeat": {"y": lambda: Y},
    "load": {"backend": lambda: "numpy"},
}

# Results, base classes, and functions called by the training engine: users call none of these.
EXEMPT = {
    "Activation", "Callback", "Layer", "Loss", "Metric", "Optimizer", "Schedule", "Source", "Statistics",
    "Batch", "Digits", "EpochMetrics", "Kind", "Preprocessing", "RangeTest", "RunComparison", "Task",
    "History.append", "History.record", "History.restore",
    "Preprocessing.config", "Preprocessing.from_config", "Sequential.inputs",
}  # fmt: skip


def is_exempt(name: str, value: Any) -> bool:
    return name in EXEMPT or (inspect.isclass(value) and issubclass(value, Exception | Warning))


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Return the public methods of a class, and the setters of its properties, by name."""
    for name, member in inspect.getmembers(kind):
        if isinstance(member, property):
            member = member.fset
        if (
            (name == "__getitem__" or not name.startswith("_"))
            and inspect.isroutine(member)
            and not is_exempt(f"{kind.__name__}.{name}", member)
        ):
            yield name, member


def with_required(label: str, function: Callable[..., Any], **given: Any) -> dict[str, Any]:
    arguments = {name: make() for name, make in PREFERRED.get(label, {}).items()}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            specific = f"{label.rpartition('.')[2]}.{name}"
            arguments.setdefault(name, REQUIRED[specific if specific in REQUIRED else name]())
    return arguments | given


def subjects() -> dict[str, Callable[[], Subject]]:
    """Return all callables that are covered, by name."""
    found: dict[str, Callable[[], Subject]] = {}

    def of_function(label: str, function: Callable[..., Any]) -> Subject:
        arguments = with_required(label, function)
        used = arguments.get("network")
        return Subject(function, arguments, used if isinstance(used, gf.Sequential) else None)

    def of_object(label: str, member: Callable[..., Any], make: Callable[[gf.Sequential], Any]) -> Subject:
        used = network()
        bound = partial(member, make(used))
        return Subject(bound, with_required(label, bound), used)

    for module in MODULES:
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value) and not is_exempt(name, value) and inspect.signature(value).parameters:
                found[f"{module.__name__}.{name}"] = partial(of_function, name, value)
    objects: dict[type, Callable[[gf.Sequential], Any]] = {
        gf.Sequential: lambda used: used,
        gf.Trainer: trainer,
        gf.Pack: lambda used: gf.Pack([trainer(used)]),
        gf.Ensemble: lambda used: gf.Ensemble([used]),
        History: lambda used: history(),
        gf.data.Preprocessing: lambda used: gf.data.fit_preprocessing(X),
    }
    for kind, make in objects.items():
        for name, member in members(kind):
            if len(inspect.signature(member).parameters) > 1:
                found[f"{kind.__name__}.{name}"] = partial(of_object, f"{kind.__name__}.{name}", member, make)
    return found


SUBJECTS = subjects()

CLASSES: dict[str, Any] = {
    "Callable": Callable,
    "Callback": gf.Callback,
    "Checkpoint": gf.Checkpoint,
    "ClassWeight": str | Mapping,
    "ColumnProfile": ColumnProfile,
    "ColumnRule": object,
    "Each": gf.Each,
    "EarlyStopping": gf.EarlyStopping,
    "Embedding": gf.Embedding,
    "EnsembleSelection": gf.EnsembleSelection,
    "Initializer": str | Real | Callable,
    "Iterable": Iterable,
    "LearningRate": Real | gf.Schedule | Callable,
    "Loss": gf.Loss,
    "LossFunction": Callable,
    "Mapping": Mapping,
    "Metric": gf.metrics.Metric,
    "MetricFunction": Callable,
    "None": type(None),
    "NumberEmbedding": NumberEmbedding,
    "Optimizer": gf.Optimizer,
    "OutputScale": OutputScale,
    "Preprocessing": gf.data.Preprocessing,
    "Scheduled": Real | gf.Schedule,
    "Scorer": Callable,
    "Sequence": Sequence | Iterator | np.ndarray,
    "Sequential": gf.Sequential,
    "Source": gf.data.Source,
    "TextIO": io.TextIOBase,
    "Trainer": gf.Trainer,
    "Where": Where,
    "bool": bool | np.bool_,
    "float": Real,
    "int": Integral,
    "os": os.PathLike,
    "str": str,
    "tuple": tuple,
}


def may_be_valid(annotation: str, value: Any) -> bool:
    """True if a value is an instance of a class that the annotation names, and may therefore be valid."""
    outer = re.sub(r"\[[^\[\]]*\]", "", re.sub(r"\[[^\[\]]*\]", "", re.sub(r"\[[^\[\]]*\]", "", annotation)))
    names = [name.strip().split(".")[0] for name in outer.split("|")]
    if "Any" in names:
        return True
    if isinstance(value, bool) and "bool" not in names:
        return False
    return any(isinstance(value, CLASSES[name]) for name in names)


class HungError(BaseException):
    """Not an `Exception`, so that nothing catches it."""


def is_ours(error: BaseException) -> bool:
    """True for an error raised by a `raise` statement in gradflow, whose message is therefore ours."""
    place = error.__traceback__
    assert place is not None
    while place.tb_next is not None:
        place = place.tb_next
    code = place.tb_frame.f_code
    raised = next(step for step in dis.get_instructions(code) if step.offset == place.tb_lasti)
    return code.co_filename.startswith(PACKAGE) and raised.opname == "RAISE_VARARGS"


def is_clear(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.filename is not None and not isinstance(error, IsADirectoryError):
        return True  # "No such file or directory: 'missing/file'"
    return isinstance(error, gf.GradflowError | TypeError | ValueError | OSError) and is_ours(error)


def fault_of(subject: Subject, parameter: inspect.Parameter, value: Any) -> str | None:
    """Return what is wrong with the response to an invalid value, or None."""
    used = subject.network
    before = None if used is None else (used.state.tobytes(), used.output_activation, used.output_scale)
    files = sorted(map(str, Path().rglob("*")))
    try:
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        subject.function(**subject.arguments | {parameter.name: value})
    except HungError:
        return f"hangs for {SECONDS} s"
    except Exception as error:
        if not is_clear(error):
            return f"{type(error).__name__}: {str(error)[:150]}"
        if used is not None and before != (used.state.tobytes(), used.output_activation, used.output_scale):
            return "the network was changed by a refusal"
        return "files were left by a refusal" if files != sorted(map(str, Path().rglob("*"))) else None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None if may_be_valid(str(parameter.annotation), value) else "accepted"


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """End calls that take too long, and make large allocations fail."""

    def hung(*_: Any) -> None:
        raise HungError

    previous = signal.signal(signal.SIGALRM, hung)
    limits = None
    if sys.platform == "linux":
        import resource

        limits = resource.getrlimit(resource.RLIMIT_AS)
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, limits[1]))
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, previous)
        if limits is not None:
            resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of each kind that paths may name."""
    import pyarrow
    import pyarrow.feather
    import pyarrow.parquet

    made = tmp_path_factory.mktemp("sweep")
    (made / "empty").touch()
    (made / "folder").mkdir()
    table = pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": Y})
    table.to_csv(made / "data.csv", index=False)
    arrow = pyarrow.Table.from_pandas(table)
    pyarrow.parquet.write_table(arrow, made / "data.parquet")
    pyarrow.feather.write_feather(arrow, made / "data.arrow")
    gf.save(network(), made / "model.safetensors")
    trainer(network()).fit(X, Y, epochs=1, batch_size=4, output=made / "run", progress=False)
    return made


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no alarm clock")
@pytest.mark.parametrize("name", SUBJECTS)
def test_wrong_values_are_refused(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRADFLOW_BACKEND", "numpy")
    monkeypatch.chdir(shutil.copytree(folder, tmp_path / "work"))
    faults = []
    with guarded(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for parameter in inspect.signature(SUBJECTS[name]().function).parameters.values():
            for label, make in WRONG.items():
                fault = fault_of(SUBJECTS[name](), parameter, make())
                if fault is not None:
                    faults.append(f"{parameter.name}={label}: {fault}")
    assert not faults, "\n".join(faults)


def test_the_sweep_reports_what_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    used = network()

    def careless(value: int) -> None:
        if value == 1:
            used.set_weights({name: weight + 1 for name, weight in used.get_weights().items()})
            used.output_activation = "none"
        elif value == 2:
            Path("left").touch()
            used.output_activation = "none"
        elif value == 3:
            while True:
                pass
        elif value == 4:
            gf.data.CSV(value, target="a")
        else:
            len(value)

    def fault(value: Any, seconds: float = SECONDS) -> str | None:
        [parameter] = inspect.signature(careless).parameters.values()
        monkeypatch.setitem(globals(), "SECONDS", seconds)
        return fault_of(Subject(careless, {}, used), parameter, value)

    with guarded():
        assert fault(0) == "TypeError: object of type 'int' has no len()"
        assert fault(1) == "the network was changed by a refusal"
        assert fault(2) == "files were left by a refusal"
        assert fault(3, 0.1) == "hangs for 0.1 s"
        assert fault(4) is None
        assert fault("text") == "accepted"
