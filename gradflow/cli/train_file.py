"""``gradflow train FILE``: trains on one's own data, after showing what was decided."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from gradflow.cli.file_options import AUTO, DataOptions, FileTrainingOptions
from gradflow.cli.fitting import Command, Output, RunOptions, fit, held_out_results, predicting, print_summary
from gradflow.cli.members import fit_members
from gradflow.cli.option_groups import with_fields
from gradflow.cli.own_data import OwnData, files_of, look_at, sha256_of
from gradflow.cli.recipe import given_settings, loss_of, prepared_by_recipe, recipe_of, shown_rule
from gradflow.cli.run_config import CONFIG_FILE, near, settings_of, toml_content, words_of
from gradflow.data import fit_preprocessing
from gradflow.data.loaded import joined_rows
from gradflow.data.numpy_file import target_file
from gradflow.data.profiles import ColumnProfile
from gradflow.data.streams import Stream
from gradflow.errors import DataError
from gradflow.losses import get_loss
from gradflow.recipes import Prepared, Recipe, TableTask
from gradflow.training import History, Trainer

FILE_HELP = """Train on your own data: a CSV file (also .gz, .bz2, .xz, .zst), Parquet, Arrow (Feather), .npy or .npz.

What the data say is decided by them, and shown before training: the task, a rule for each column, the rows to hold out,
and the settings of training. Each has an option. --dry-run stops after showing it.

Examples:

[cyan]gradflow train customers.csv --target churn[/]

[cyan]gradflow train customers.csv --target churn --rule zip=category --rule name=ignore --dry-run[/]

[cyan]gradflow train sales.parquet --target price --time date --layers 256,128 --epochs 30[/]

[cyan]gradflow train x.npy --target y.npy[/]

[cyan]gradflow train --config runs/customers/train.toml --learning-rate 0.01[/]

Runs are saved in runs/NAME, runs/NAME-2 and so on, where NAME is that of the file, unless --output names a folder.
There, train.toml holds all settings: edit it, and train with --config.
"""


@with_fields
def train_file(
    context: typer.Context,
    data: Annotated[str | None, typer.Argument(metavar="", hidden=True)] = None,
    config: Annotated[
        Path | None, typer.Option(help="Take all settings from this file, or run folder.", show_default="none")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Show what would be done, and do not train.")
    ] = False,
    *,
    of_data: DataOptions,
    options: FileTrainingOptions,
    run: RunOptions,
) -> None:
    """Train on a file; `FILE_HELP` describes it. ``config`` has been replaced by what it holds."""
    if data is None:
        raise DataError("which file? Pass one, as in gradflow train customers.csv --target churn, or digits")
    path = Path(data)
    _note_digits(path)
    is_repetition = context.obj[0] == "repeat"
    folder = run.folder(_stem(path))
    own = look_at(path, of_data, announces=not run.quiet)
    own = _with_digests(own, must_match=run.resume or is_repetition)
    named = _named_options(context, options)
    recipe = None if options.recipe is None else recipe_of(options, named)
    options = _decided(own, options, recipe)
    is_shown = not (run.quiet or run.json_lines) or dry_run
    if is_shown:
        _show(own, options, recipe, folder)
    if dry_run:
        return
    settings = {"data": str(own.path.resolve())} | settings_of(own.options, options)
    settings = settings if recipe is None else given_settings(settings, named)
    command = Command(words_of(settings), is_repetition, {CONFIG_FILE: toml_content(settings)})
    training, held_out = own.divided(options.seed)
    x, y, weight = _data(training, own)
    prepared = _prepared(own, options, recipe, training if y is None else x, len(training))
    trainers = prepared.trainers
    network = trainers[0].network
    validation = _data(held_out, own)
    given: dict[str, Any] = prepared.settings | {
        "sample_weight": weight,
        "class_weight": options.weights_of(network.classes or range(max(network.n_out, 2))),
        "validation_data": held_out if own.loaded is None else validation[: 2 if validation[2] is None else 3],
    }
    options = replace(options, early_stopping=options.early_stopping or None)
    if prepared.pack is not None:
        fit_members(trainers, folder, command, options, run, x, y, **given)
    else:
        report = partial(_report, trainers[0], folder, len(training))
        fit(trainers[0], folder, command, options, run, report, x, y, **given)


def _named_options(context: typer.Context, options: FileTrainingOptions) -> list[str]:
    """Return the names of the options that are on the command line, with those of a config file."""
    sources = {name: context.get_parameter_source(name) for name in vars(options)}
    return [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]


def _note_digits(path: Path) -> None:
    """Explain a file that does not exist, but could be meant as a command."""
    if not path.exists() and path.name.lower() in ("digit", "digits.csv", "mnist"):
        raise DataError(f"there is no file {str(path)!r}. The images of digits are: gradflow train digits")


def _stem(path: Path) -> str:
    """Return the name of a file without the suffixes of its kind and compression."""
    name = path.resolve().name
    while (shorter := Path(name).stem) != name and Path(name).suffix.lower() in _SUFFIXES:
        name = shorter
    return name


_SUFFIXES = (".csv", ".tsv", ".txt", ".gz", ".bz2", ".xz", ".zst", ".parquet", ".arrow", ".feather", ".npy", ".npz")


def _with_digests(own: OwnData, *, must_match: bool) -> OwnData:
    """Return the data with the checksums of their files, after comparing them with those of the run.

    Raises:
        DataError: if a file has changed, and ``must_match``.
    """
    digests: dict[str, Any] = {}
    for name, path in (("data_sha256", own.path), ("validation_sha256", own.options.validation)):
        digests[name] = None if path is None else sha256_of(files_of(path, own.options.target))
        before = getattr(own.options, name)
        if before in (None, digests[name]):
            continue
        if must_match:
            raise DataError(
                f"{path} has changed since the run began, which can only go on with the same data. Restore the file, "
                "or train anew"
            )
        print(f"note: {path} has changed since the run whose settings these are", file=sys.stderr)
    return replace(own, options=replace(own.options, **digests))


# -- decisions --------------------------------------------------------------------------------------------------------


def _decided(own: OwnData, options: FileTrainingOptions, recipe: Recipe | None) -> FileTrainingOptions:
    """Return the options of training with everything that the data decide."""
    is_classifier = own.options.task == "classification"
    _check_targets(own, is_classifier=is_classifier)
    names = list(own.targets[0].counts or ()) if is_classifier else []
    loss = options.loss
    if loss == AUTO:
        is_binary = len(names) == 2 and recipe is None
        of_classes = "binary_cross_entropy" if is_binary else "softmax_cross_entropy"
        loss = of_classes if is_classifier else "mean_squared_error"
    if (get_loss(loss).output_activation != "identity") != is_classifier:
        raise DataError(f"--loss {loss} is not for {own.options.task}; omit it, or pass another --task")
    metrics = options.metrics
    if metrics is None and get_loss(loss).predicts_targets:
        of_two = "roc_auc,f1" if own.loaded is not None else "f1"  # roc_auc keeps all rows: a hundred bytes for each
        of_classes = of_two if get_loss(loss).output_activation == "sigmoid" else "balanced_accuracy"
        metrics = of_classes if is_classifier else "r2,mean_absolute_error"
    options.check(names)
    options = replace(options, loss=loss, metrics=metrics or "none")
    if recipe is not None:
        return replace(options, epochs=recipe.epochs, batch_size=str(recipe.rows_of_a_batch(own.rows)))
    epochs = options.epochs or max(3, min(100, 10_000_000 // own.rows))
    early = options.early_stopping
    return replace(
        options,
        epochs=epochs,
        batch_size=str(_batch_size(own.rows)) if options.batch_size == AUTO else options.batch_size,
        early_stopping=max(3, epochs // 10) if early is None else early,
    )


def _batch_size(rows: int) -> int:
    """Return a power of two from 32 to 1024: about a hundredth of the rows."""
    return int(min(1024, max(32, 2 ** max(0, rows // 100).bit_length() // 2)))


def _check_targets(own: OwnData, *, is_classifier: bool) -> None:
    for target in own.targets:
        if target.missing:
            raise DataError(
                f"{own.path}: the target {target.name!r} lacks {target.missing:,} values, the first in "
                f"{target.first_missing}; remove these rows, or fill them in"
            )
        if target.kind == "times" or (target.kind == "text" and not is_classifier):
            raise DataError(
                f"{own.path}: the target {target.name!r} holds {'timestamps' if target.kind == 'times' else 'text'}, "
                "but must be numbers or a class; predict another column, or convert it"
            )
        if target.distinct == 1:
            raise DataError(f"{own.path}: the target {target.name!r} has the same value in all rows")
    if is_classifier and len(own.targets) > 1:
        raise DataError("a classification has one target; train a network for each, or pass --task regression")
    if is_classifier and (own.targets[0].counts is None or own.targets[0].is_mostly_distinct):
        raise DataError(
            f"{own.path}: the target {own.targets[0].name!r} has too many different values for classes; if they are "
            "numbers to predict, pass --task regression; else predict another column"
        )
    counts = own.targets[0].counts if is_classifier and own.is_stratified else None
    if counts and (single := [name for name, rows in counts.items() if rows == 1]):
        raise DataError(
            f"{own.path}: the class {single[0]!r} has a single row, but each class must be in both parts; remove the "
            "row, merge rare classes, or hold out rows in another way: --validation, --group or --time"
        )


def _prepared(own: OwnData, options: FileTrainingOptions, recipe: Recipe | None, x: Any, rows: int) -> Prepared:
    """Return the trainers of all networks, and the settings of their fit that are no options."""
    is_classifier = own.options.task == "classification"
    classes = list(own.targets[0].counts or ()) if is_classifier else []
    loss = get_loss(options.loss) if recipe is None else loss_of(options, recipe, is_classifier=is_classifier)
    is_binary = loss.output_activation == "sigmoid"
    if is_binary and len(classes) != 2:
        raise DataError(f"--loss {options.loss} is for two classes, but there are {len(classes)}; omit it")
    outputs = 1 if is_binary else len(classes) or len(own.targets)
    scales = loss.output_activation == "identity" and loss.takes_any_scale
    wanted = own.options.standardize_targets
    settings: dict[str, Any] = {
        "metrics": options.metric_names,
        "standardize_targets": scales if wanted is None else wanted,
        "clip_norm": options.clip_norm,
        "threads": options.threads,
        "layer_statistics": options.layer_statistics,
    }
    if recipe is not None:
        task = TableTask(rows, outputs, loss)
        return prepared_by_recipe(own, options, recipe, x, task, classes=_class_names(classes), **settings)
    settings |= {"l1": options.l1, "l2": options.l2}
    preprocessing, trainers = fit_preprocessing(x, own.fitted_rules), []
    for each in options.of_members:
        network = each.made_network(preprocessing.n_out, outputs, preprocessing)
        network.classes = _class_names(classes)
        trainers.append(Trainer(network, loss, each.made_optimizer(), **settings))
    return Prepared(trainers, {})


def _class_names(classes: list[Any]) -> list[Any] | None:
    """Return the names of the classes, unless they are the class numbers."""
    return classes if classes and classes != list(range(len(classes))) else None


def _data(part: Stream, own: OwnData) -> tuple[Any, Any, Any]:
    return joined_rows(part) if own.loaded is not None else (part, None, None)


# -- what is printed --------------------------------------------------------------------------------------------------


def _show(own: OwnData, options: FileTrainingOptions, recipe: Recipe | None, folder: Path) -> None:
    """Print the columns and all decisions."""
    console = Output()
    table = Table(show_header=False)
    for name, value in _decisions(own, options, recipe).items():
        table.add_row(name, escape(value))
    console.print(table)
    columns = Table()
    for heading in ("column", "rule", "because"):
        columns.add_column(heading, overflow="fold")
    for name, (rule, reason) in own.rules.items():
        columns.add_row(escape(name or "(no name)"), shown_rule(rule, recipe), escape(reason))
    console.print(columns)
    console.print(
        f"run folder: {folder}; to change any of this: gradflow train FILE --help",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _decisions(own: OwnData, options: FileTrainingOptions, recipe: Recipe | None) -> Mapping[str, str]:
    data = own.options
    way = "loaded into memory" if own.loaded is not None else "streamed, batch by batch"
    numbers = f"decimal point {data.decimal!r}" if data.decimal == "," else ""
    numbers += f"{', ' if numbers else ''}{data.thousands!r} between thousands" if data.thousands else ""
    formatted = {"numbers": numbers} if numbers else {}
    split = f"{(data.validation_fraction or 0.2):.0%} of the rows, by seed {options.seed}"
    if data.validation is not None:
        split = str(near(data.validation))
    elif data.group:
        split += f", whole groups of {data.group!r}"
    elif data.time:
        split = f"the last {(data.validation_fraction or 0.2):.0%} of the rows by {data.time!r}"
    elif data.task == "classification":
        split += ", of each class the same fraction"
    weight = {"rows weighted by": data.sample_weight} if data.sample_weight else {}
    return {
        "data": f"{near(own.path)}: {own.rows:,} rows, {_counted(own.features)}, {way}",
        **formatted,
        "task": f"{data.task} of {', '.join(map(_described_target, own.targets))}",
        **weight,
        "held out": split,
        **(_of_training(options) if recipe is None else _of_recipe(options, recipe)),
    }


def _of_training(options: FileTrainingOptions) -> dict[str, str]:
    """Return network and training, by the options."""
    early = f"; stops after {options.early_stopping} epochs without improvement" if options.early_stopping else ""
    several = f"{options.members} members, each " if options.members > 1 else ""
    return {
        "network": f"{several}layers {options.layers}, {options.activation}, dropout {options.dropout:g}"
        + ("" if options.dropout_schedule == "constant" else f" by {options.dropout_schedule}"),
        "loss": _described_loss(options),
        "optimizer": f"{options.optimizer}, batches of {options.batch_size} rows",
        "epochs": f"{options.epochs}{early}",
    }


def _described_loss(options: FileTrainingOptions) -> str:
    return f"{options.loss}; metrics {options.metrics}"


def _of_recipe(options: FileTrainingOptions, recipe: Recipe) -> dict[str, str]:
    """Return network and training, by the recipe; what it leaves open depends on the task."""
    settings = [f"{name} {_listed(value)}" for name, value in recipe.config().items() if value not in (None, [])]
    return {"recipe": f"{recipe.name}: {', '.join(settings)}", "loss": _described_loss(options)}


def _listed(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _counted(features: Sequence[str]) -> str:
    return f"{len(features)} feature{'' if len(features) == 1 else 's'}"


def _described_target(target: ColumnProfile) -> str:
    name = repr(str(near(Path(target.name)))) if target_file(target.name) else repr(target.name)
    if target.counts is None or len(target.counts) > 10 or (target.kind == "numbers" and not target.are_whole):
        return name
    shares = [f"{value} {count / target.present:.0%}" for value, count in target.counts.items()]
    return f"{name} ({', '.join(shares)})"


def _report(trainer: Trainer, folder: Path, rows: int, history: History) -> None:
    """Print the held-out results of a run."""
    print_summary(
        trainer, history, folder, rows, {f"held-out {name}": value for name, value in held_out_results(history).items()}
    )
    if history.stopped_by != "interrupted":
        print(predicting(folder))
