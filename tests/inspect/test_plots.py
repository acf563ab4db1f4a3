"""Plots: their contents, and the messages if something is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from numpy.testing import assert_allclose

import gradflow as gf


def history(**values: list[float]) -> gf.History:
    made = gf.History()
    for place in range(len(values["loss"])):
        made.append({name: value[place] for name, value in values.items()})
    return made


def test_curves_show_every_history(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    histories = {"slow": history(loss=[3.0, 2.0]), "fast": history(loss=[3.0, 1.0, 0.5], val_loss=[3.0, 2.0, 2.5])}
    figure = gf.inspect.plot_curves(histories, logarithmic=True)
    (axes,) = figure.axes
    drawn = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
    assert drawn == {
        "slow": ([1, 2], [3.0, 2.0]),
        "fast, training": ([1, 2, 3], [3.0, 1.0, 0.5]),
        "fast, validation": ([1, 2, 3], [3.0, 2.0, 2.5]),
    }
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("epoch", "loss", "log")
    assert len({line.get_color() for line in axes.lines}) == 2
    figure.savefig(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_history_alone_is_drawn_as_it_is() -> None:
    pytest.importorskip("matplotlib")
    alone = history(loss=[3.0, 2.0], val_loss=[3.5, 2.5])
    for figure in (gf.inspect.plot_curves(alone), alone.plot()):
        (axes,) = figure.axes
        assert [line.get_label() for line in axes.lines] == ["training", "validation"]
        assert all(float(tick).is_integer() for tick in axes.get_xticks())
    (axes,) = history(loss=[3.0]).plot(logarithmic=True).axes
    # a single epoch is a point, not an empty line
    assert (axes.get_yscale(), axes.lines[0].get_marker()) == ("log", "o")


def test_gradient_norms_show_the_weights_from_first_to_last(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    norms = {"0.weight": 1e-3, "2.weight": 1e-2, "0.bias": 5.0, "2.bias": 7.0}
    figure = gf.inspect.plot_gradient_norms({"sigmoid": norms})
    (axes,) = figure.axes
    (line,) = axes.lines
    assert_allclose(line.get_xydata(), [[1, 1e-3], [2, 1e-2]])
    assert axes.get_yscale() == "log"
    figure.savefig(tmp_path / "norms.png")
    assert (tmp_path / "norms.png").stat().st_size > 1000


def test_nothing_to_plot() -> None:
    with pytest.raises(gf.DataError, match="histories must be a history"):
        gf.inspect.plot_curves({})
    with pytest.raises(gf.DataError, match="histories must be a history, or a dict"):
        gf.inspect.plot_curves([history(loss=[1.0])])
    with pytest.raises(gf.DataError, match="at least one"):
        gf.inspect.plot_gradient_norms({})


def test_history_without_the_value() -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(gf.DataError, match="the history has no 'accuracy'; it has loss"):
        gf.inspect.plot_curves({"run": history(loss=[1.0])}, "accuracy")


def test_missing_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(gf.GradflowError, match=r"not installed: pip install .*\[plot\]"):
        gf.inspect.plot_curves({"run": history(loss=[1.0])})


def test_import_does_not_load_matplotlib() -> None:
    code = "import sys, gradflow; print([name for name in ('matplotlib', 'cupy', 'rich') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_notebook_shows_a_figure_without_pyplot() -> None:
    program = """
import sys, pickle, gradflow as gf
from gradflow.training.progress.history import History
history = History()
history.append({"loss": 1.0})
figure = history.plot()
assert "matplotlib.pyplot" not in sys.modules
for shown in (figure, pickle.loads(pickle.dumps(figure))):
    assert shown._repr_png_().startswith(b"\\x89PNG")
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("backend", "is_shown"), [("module://tests.inspect.windows", True), ("agg", False), ("svg", False)]
)
def test_pyplot_shows_figures_in_a_program_with_windows(
    backend: str, is_shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib import pyplot

    from tests.inspect import windows

    monkeypatch.setattr(windows, "shown", [])
    previous = pyplot.get_backend()
    pyplot.switch_backend(backend)
    try:
        figure = gf.inspect.plot_curves(history(loss=[1.0, 0.5]))
        assert pyplot.get_fignums() == [1] * is_shown
        if is_shown:
            pyplot.show()
            assert windows.shown == [figure]
    finally:
        pyplot.close("all")
        pyplot.switch_backend(previous)
