"""`report`: what a training run did, as one HTML file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradflow.checks import boolean, file_path
from gradflow.data.columns import CategoryColumn, ClippedColumn, Column, EmbeddingColumn, NumberColumn, QuantileColumn
from gradflow.data.dates import DateColumn
from gradflow.data.table import positions
from gradflow.errors import DataError, GradflowError
from gradflow.figures import for_notebooks
from gradflow.files import write_atomically
from gradflow.installation import pip_install
from gradflow.network import Sequential
from gradflow.reports import pictures
from gradflow.reports.diagnosis import diagnose
from gradflow.reports.predictions import Classified, Regressed, WorstRow, importances, judge
from gradflow.reports.rows import SampledRows, rows_of
from gradflow.reports.runs import Run, read_run
from gradflow.reports.surface import Surface, loss_surface
from gradflow.training.runs.picture import kinds_of
from gradflow.training.runs.weight_path import weights_by_time
from gradflow.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAME = "report.html"
_SHOWN_COLUMNS = 6
_MOST_OUTPUTS = 4
_DATA = "Give it the data: gradflow report FOLDER --data FILE --target COLUMN, or gf.report(folder, (x, y))."
_NO_PATH = (
    "The weights of at least three epochs are needed. gradflow train keeps them; in Python, pass "
    "callbacks=[gf.WeightPath(folder)] to fit, or checkpoint=gf.Checkpoint(every_epochs=1, keep=100)."
)
_TRAINED_ON = " These rows were trained on; new ones are predicted worse."
_Picture = tuple[str, str, str]
"""Address of a picture, its description for those who cannot see it, and its caption."""
_SETTINGS = (
    "l2", "l1", "clip_norm", "clip_value", "average", "class_weight", "standardize_targets", "clamp_predictions",
    "early_stopping", "validation_fraction",
)  # fmt: skip
"""Settings that are shown if they are set."""
_ENDINGS = {
    "epochs": "as many as it was given",
    "converged": "when it had converged",
    "early stopping": "stopped early",
    "callback": "stopped by a callback",
    "interrupted": "interrupted",
    "diverged": "when the loss was no longer finite",
}


def report(
    folder: str | os.PathLike[str],
    data: Any = None,
    held_out: Any = None,
    *,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a report on a training run as one HTML file, which needs neither network nor JavaScript to read.

    It shows what was trained on what; the learning curves; what happened in each layer, if that was measured
    (``layer_statistics=True``); and a diagnosis in words with what to try. With data it also shows the path of the
    weights down the loss surface, if the run kept it (`WeightPath`); a confusion matrix and calibration, or predicted
    against true values; the worst rows; and the permutation importance of the columns. It needs the extra ``report``.

    Args:
        folder: the folder of a run; or that of several networks at once, if it also holds their ensemble.
        data: the training data, a pair (x, y) or a source; of more than 10,000 rows, as many are chosen at random.
            Weights of rows and classes are not applied.
        held_out: data that was not trained on, for all that judges predictions; None uses ``data``.
        output: the file to write; None is report.html in the folder.
        overwrite: True if an existing file may be replaced.

    Returns:
        The path of the file.

    Raises:
        DataError: if there is no finished run in the folder, the data does not fit it, or the file exists.
        FileFormatError: if a file of the run is damaged.
        GradflowError: if matplotlib or jinja2 is missing.
        OSError: if the file cannot be written.
    """
    folder = file_path("folder", folder)
    target = folder / _NAME if output is None else file_path("output", output)
    if missing := [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]:
        raise GradflowError(f"reports need {' and '.join(missing)}, not installed: {pip_install('report')}")
    if not boolean("overwrite", overwrite) and target.exists():
        raise DataError(f"{target} already exists; choose another output, or pass overwrite=True to replace it")
    run = read_run(folder)
    rows = None if data is None else rows_of(run.network, "data", data)
    judged_rows = rows if held_out is None else rows_of(run.network, "held_out", held_out)
    write_atomically(
        target,
        _page(folder.resolve().name, run, rows, judged_rows, is_held_out=held_out is not None),
        through_links=True,
    )
    return target


def plot_loss_surface(folder: str | os.PathLike[str], data: Any) -> Figure:
    """Plot the loss around the path of the weights of a run, as `report` does, as a matplotlib figure.

    ``figure.savefig(path)`` writes it to a file, and notebooks show it.

    Args:
        folder: the folder of a run that kept its weights (`gradflow.WeightPath`).
        data: the training data, a pair (x, y) or a source.

    Raises:
        DataError: if there is no finished run in the folder, it did not keep its weights, or the data does not fit it.
        FileFormatError: if a file of the run is damaged.
        GradflowError: if matplotlib is missing.
    """
    run = read_run(file_path("folder", folder))
    found = _found_surface(run, rows_of(run.network, "data", data))
    if isinstance(found, str):
        raise DataError(f"{folder}: {found}")
    if find_spec("matplotlib") is None:
        raise GradflowError(f"plots need matplotlib, which is not installed: {pip_install('plot')}")
    return for_notebooks(pictures.surface(found))


def _page(
    name: str, run: Run, rows: SampledRows | None, judged_rows: SampledRows | None, *, is_held_out: bool
) -> bytes:
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
    judged, worst = None, list[WorstRow]()
    loss = None if run.objective is None else run.objective.loss
    if judged_rows is not None and loss is not None:
        judged, worst = judge(run.model, loss, judged_rows)
    of_classes = judged if isinstance(judged, Classified) else None
    content = {
        "title": f"Report on {name}",
        "version": __version__,
        "summary": _summary(run),
        "findings": diagnose(run.network, run.objective, run.history, rows, of_classes),
        "has_data": rows is not None,
        "how_to_give_data": _DATA,
        "settings": _settings(run),
        "layers": [
            (place, repr(layer), sum(weight.size for weight in _weights(run.network, place)))
            for place, layer in enumerate(run.network.layers)
        ],
        "columns": _columns(run.network),
        **_curves(run),
        **_surface(run, rows),
        **_predictions(judged, worst, judged_rows, is_held_out=is_held_out),
        **_importance(run, judged_rows),
    }
    return template.render(content).encode()


def _weights(network: Sequential, place: int) -> list[Any]:
    return [array for name, array in network.get_weights().items() if name.startswith(f"{place}.")]


def _summary(run: Run) -> str:
    config, result, history = run.config, run.config["result"], run.history
    rows = str(config.get("data", "")).partition(" rows")[0]
    measured = [
        f"{what} {history.last()[name]:.4g}"
        for name, what in (
            ("loss", "training loss"),
            ("val_loss", "validation loss"),
            ("val_accuracy", "validation accuracy"),
        )
        if name in history
    ]
    if run.members:
        epochs = sorted({member.epochs for member in run.members.values()})
        took = str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
        return (
            f"{len(run.members)} networks of {run.network.n_parameters:,} parameters each were trained on {rows} rows "
            f"for {took} epochs. The model is the mean of their predictions, by which rows and columns are judged "
            "below. What the diagnosis says of training, the layers and the loss surface are those of the first "
            f"network, {run.folder.name}."
        )
    return (
        f"A network of {run.network.n_parameters:,} parameters was trained on {rows} rows for {history.epochs} epochs, "
        f"{_ENDINGS.get(result['stopped_by'], result['stopped_by'])}, in {history.seconds:.1f} seconds. "
        f"In the last epoch: {', '.join(measured)}."
    )


def _settings(run: Run) -> list[tuple[str, str]]:
    """Return the settings of a run that were set, by name."""
    config = run.config
    shown = [(str(name), _described(config[name])) for name in ("loss", "optimizer") if name in config]
    if "batch_size" in config:
        shown.append(("batch size", str(config["batch_size"] or "all rows")))
    shown += [(name.replace("_", " "), _described(config[name])) for name in _SETTINGS if config.get(name)]
    if config.get("accumulate", 1) != 1:
        shown.append(("accumulated batches", str(config["accumulate"])))
    if run.network.classes is not None:
        shown.append(("classes", ", ".join(map(str, run.network.classes))))
    for name in ("data", "validation_data"):
        shown += [(name.replace("_", " "), str(config[name]).partition(",")[0])] if config.get(name) else []
    for name, history in run.members.items():
        epoch = (history.best_epoch or history.epochs) - 1
        values = ", ".join(f"{kind} {history[kind][epoch]:.4g}" for kind in history if kind.startswith("val_"))
        shown.append((name, values.replace("val_", "validation ") or f"loss {history['loss'][epoch]:.4g}"))
    version = config.get("versions", {}).get("gradflow", "")
    shown.append(("dtype, seed", f"{run.network.dtype.name}, {run.network.seed}"))
    return [*shown, ("trained on", f"{config.get('device', '')}, gradflow {version}")]


def _described(value: Any) -> str:
    """Return a setting as text: {"name": "adam", "learning_rate": 0.001} is "adam, learning rate 0.001"."""
    if not isinstance(value, dict):
        return str(value)
    parts = [str(value["name"])] if "name" in value else []
    parts += [f"{key.replace('_', ' ')} {_described(item)}" for key, item in value.items() if key != "name"]
    return ", ".join(parts)


def _columns(network: Sequential) -> list[tuple[str, str]]:
    if network.preprocessing is None:
        return []
    pairs = zip(network.preprocessing.names, network.preprocessing.columns, strict=True)
    return [(name, _rule(column)) for name, column in pairs]


def _rule(column: Column) -> str:
    words = {"fill": "; missing values are filled", "mark": "; missing values are marked", "refuse": ""}
    if isinstance(column, QuantileColumn) and column.scale:
        text = f"normally distributed, by {len(column.quantiles)} quantiles around {column.center:.4g}"
    elif isinstance(column, NumberColumn):
        is_constant = column.scale == 0
        text = "nothing: it is constant" if is_constant else f"(x - {column.center:.4g}) / {column.scale:.4g}"
        text += f", clipped smoothly to ±{column.limit:g}" if isinstance(column, ClippedColumn) else ""
    elif isinstance(column, DateColumn):
        text = f"time: {', '.join(column.parts)}"
    elif isinstance(column, EmbeddingColumn):
        text = f"a vector of {column.size} for each of {len(column.categories)} categories"
    else:
        assert isinstance(column, CategoryColumn)
        text = f"one input for each of {len(column.categories)} categories"
    return text + words[getattr(column, "missing", "refuse")]


def _curves(run: Run) -> dict[str, Any]:
    kinds = kinds_of(run.history)
    of_members = list(run.members.values())
    drawn = {
        kind: pictures.data_uri(
            pictures.curves_of_members(of_members, kind)
            if of_members and kind in run.history
            else pictures.curves(run.history, kind, run.network.layers)
        )
        for kind in kinds
    }

    def entries(names: Sequence[str]) -> list[_Picture]:
        return [(drawn[kind], f"{kind.replace('_', ' ')} by epoch", "") for kind in names]

    of_layers = [kind for kind in kinds if kind not in run.history]
    return {
        "curves": entries([kind for kind in kinds if kind in run.history]),
        "layer_curves": entries(of_layers),
    }


def _found_surface(run: Run, rows: SampledRows | None) -> Surface | str:
    """Return the loss around the path of the weights, or why there is none."""
    weights = weights_by_time(run.folder, run.history["loss"], run.network.state.size)
    if run.objective is None:
        return "The loss of this run is not known here; import the module that defines it."
    if weights is None or len(weights.labels) < 3:
        return _NO_PATH
    if rows is None:
        return f"The weights along the way are there, but not the data. {_DATA}"
    found = loss_surface(run.network, run.objective.loss, weights, rows)
    return found or "The weights did not move in two directions, so there is no plane to show."


def _surface(run: Run, rows: SampledRows | None) -> dict[str, Any]:
    found = _found_surface(run, rows)
    if isinstance(found, str):
        return {"surface": None, "no_surface": found}
    caption = (
        f"The loss on {found.rows:,} training rows around the path of the weights. The plane holds "
        f"{sum(found.explained):.0%} of the path's variation. From {found.path_loss[0]:.3g} ({found.labels[0]}) the "
        f"weights rolled down to {found.path_loss[-1]:.3g} ({found.labels[-1]})."
    )
    alt = "Contour lines of the loss, with the path of the weights from its begin to its end"
    return {"surface": {"uri": pictures.data_uri(pictures.surface(found)), "alt": alt, "caption": caption}}


def _predictions(
    judged: Classified | Regressed | None, worst: list[WorstRow], rows: SampledRows | None, *, is_held_out: bool
) -> dict[str, Any]:
    if rows is None:
        return {"predictions": None, "no_predictions": _DATA}
    if judged is None:
        return {"predictions": None, "no_predictions": "They are not shown for this kind of loss."}
    used = f"On {len(rows.y):,} {'held-out' if is_held_out else 'training'} rows"
    if len(rows.y) < rows.total:
        used += f", chosen at random from {rows.total:,}"
    is_classified = isinstance(judged, Classified)
    found, drawn = _of_classes(judged) if isinstance(judged, Classified) else _of_numbers(judged)
    names = rows.x.names
    return {
        "predictions": {
            "summary": f"{used}: {found}.{'' if is_held_out else _TRAINED_ON}",
            "pictures": drawn,
            "worst": worst,
            "measure": "probability of the true class" if is_classified else "difference",
            "unit": rows.unit,
            "counted": "Lines are counted from 1, in the file" if rows.unit == "line" else "Rows are counted from 0",
            "columns": names[:_SHOWN_COLUMNS],
            "prefix": "column " if names == positions(len(names)) else "",
            "hidden": max(len(names) - _SHOWN_COLUMNS, 0),
        }
    }


def _of_classes(judged: Classified) -> tuple[str, list[_Picture]]:
    """Return a summary of predicted classes, and the pictures."""
    right = judged.confusion.trace() / judged.confusion.sum()
    confusion, calibration = (pictures.data_uri(draw(judged)) for draw in (pictures.confusion, pictures.calibration))
    return f"{right:.1%} of the predicted classes are right", [
        (
            confusion,
            "Confusion matrix: fractions of each true class by predicted class",
            "Each row is a true class; its cells say how often it is predicted as which.",
        ),
        (
            calibration,
            "Fraction of right predictions by predicted probability",
            "Calibration: of the predictions with probability p, a fraction p should be right. Below the dotted line "
            f"the network is too sure. The mean gap is {judged.calibration_error:.3f}.",
        ),
    ]


def _of_numbers(judged: Regressed) -> tuple[str, list[_Picture]]:
    """Return a summary of predicted numbers, and the pictures."""
    found = [
        f"{name and f'{name}: '}root mean squared error {error:.4g}, R2 {r2:.3f}"
        for name, error, r2 in zip(judged.names, judged.error, judged.r2, strict=True)
    ]
    drawn = [
        (
            pictures.data_uri(pictures.predicted_against_true(judged, output)),
            f"Predicted against true values {name}".strip(),
            f"{name and f'{name}. '}Exact predictions would lie on the dotted line.",
        )
        for output, name in enumerate(judged.names[:_MOST_OUTPUTS])
    ]
    return "; ".join(found), drawn


def _importance(run: Run, rows: SampledRows | None) -> dict[str, Any]:
    if rows is None or run.objective is None:
        return {"importance": None, "no_importance": _DATA}
    found = importances(run.model, run.objective.loss, rows)
    if not found:
        return {"importance": None, "no_importance": "Not computed for more than 500 columns."}
    caption = f"Mean and standard deviation over 3 shuffles{'' if len(found) <= 15 else '; the first 15 columns'}."
    uri = pictures.data_uri(pictures.importance(found))
    return {"importance": (uri, "Rise of the loss when a column is shuffled", caption)}
