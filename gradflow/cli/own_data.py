"""A file of one's own: opened, looked at, and divided for training."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gradflow.checks import known_name
from gradflow.cli.file_options import DataOptions
from gradflow.cli.rules import OF_TEXT, rules_of, text_of
from gradflow.cli.saved_run import listed_shortly
from gradflow.data import CSV, Dates, Parquet, open_file, profile, suggest_rule, suggest_task
from gradflow.data.any_file import column_names, existing, kind_of, sniffed_delimiter
from gradflow.data.loaded import Loaded
from gradflow.data.numpy_file import NumPyFile, columns_of_targets, target_file
from gradflow.data.profiles import ColumnProfile
from gradflow.data.rules import ColumnRule
from gradflow.data.streams import Stream
from gradflow.data.suggestions import doubtful_text, suggest_number_format, suggest_target
from gradflow.errors import DataError, unknown_name

LOADED_BYTES = 2**26
"""Files up to this size are loaded; those that are compressed, up to a quarter of it."""


@dataclass(frozen=True)
class OwnData:
    """A file whose columns have been looked at.

    Attributes:
        path: the file.
        options: the options, with all decisions.
        columns: facts about the columns.
        rules: the rule of each input, or None for columns that are left out, with the reasons.
        loaded: the rows, if they are in memory.
    """

    path: Path
    options: DataOptions
    columns: Mapping[str, ColumnProfile]
    rules: Mapping[str, tuple[ColumnRule | None, str]]
    loaded: Loaded | None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return next(iter(self.columns.values())).rows

    @property
    def targets(self) -> list[ColumnProfile]:
        """The facts about the targets."""
        return [self.columns[name] for name in self.options.target or ()]

    @property
    def features(self) -> list[str]:
        """The names of the columns that are inputs."""
        return [name for name, (rule, _) in self.rules.items() if rule is not None]

    @property
    def fitted_rules(self) -> dict[str | int, ColumnRule]:
        """The rules of the inputs; the time of a split by time only has its places in cycles, since it goes on."""
        rules: dict[str | int, ColumnRule] = {name: rule for name, (rule, _) in self.rules.items() if rule is not None}
        by_time = rules.get(self.options.time or "")
        if isinstance(by_time, Dates):
            rules[self.options.time or ""] = Dates(("month", "weekday", "hour"), missing=by_time.missing)
        return rules

    @property
    def is_stratified(self) -> bool:
        """True if the same fraction of each class is held out."""
        others = (self.options.group, self.options.time, self.options.validation)
        return self.options.task == "classification" and others == (None, None, None)

    def divided(self, seed: int) -> tuple[Stream, Stream]:
        """Return the rows for training, and those held out.

        Raises:
            DataError: as `gradflow.data.Source.split`.
        """
        options = self.options
        if options.validation is not None:
            return self._source(self.path), self._source(options.validation)
        whole: Stream
        if self.loaded is None:
            whole = self._source(self.path)
        else:
            whole = self.loaded.with_columns(
                target=options.target, features=self.features, sample_weight=options.sample_weight
            )
        training, held_out = whole.split(
            validation_fraction=options.validation_fraction or 0.2,
            seed=seed,
            stratify=self.is_stratified or None,
            group=options.group,
            time=options.time,
        )
        assert isinstance(training, Stream)
        assert isinstance(held_out, Stream)
        return training, held_out

    def _source(self, path: Path) -> Stream:
        return open_file(
            path,
            target=self.options.target,
            features=self.features,
            sample_weight=self.options.sample_weight,
            text=[name for name, (rule, _) in self.rules.items() if isinstance(rule, OF_TEXT)],
            **reading(self.options),
        )


def reading(options: DataOptions) -> dict[str, Any]:
    """Return the arguments for reading CSV files."""
    return {
        "delimiter": options.delimiter,
        "decimal": options.decimal,
        "thousands": options.thousands,
        "encoding": options.encoding,
        "na_values": options.missing,
    }


def look_at(path: Path, options: DataOptions, *, announces: bool = False) -> OwnData:
    """Read a file once, and decide what is not given: the task, and the rules of the columns.

    Args:
        path: the file.
        options: the options.
        announces: print a note before reading a large file.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError: for columns that do not exist, and values that cannot be used.
    """
    path = existing(path)
    options = _checked(path, options)
    given = rules_of(options.rule or ())
    names = column_names(
        path, **{name: value for name, value in reading(options).items() if value and name in ("delimiter", "encoding")}
    )
    names += [name for name in options.target or () if kind_of(path) is NumPyFile and target_file(name)]
    _check_columns(path, names, options, given)
    special = {*(options.target or ()), options.sample_weight, options.group, options.time}
    read = [name for name in names if name and (name in special or given.get(name, True) is not None)]
    is_small = _size(path) <= LOADED_BYTES
    if announces and not is_small:
        print(f"reading {path}, to see what is in it", file=sys.stderr)
    how = options.read or ("load" if is_small else "stream")
    is_loaded = known_name("--read", how, ("load", "stream")) == "load"
    text = [name for name, rule in given.items() if isinstance(rule, OF_TEXT)]
    loaded, columns = _profiled(path, options, read, text, is_loaded=is_loaded)
    formatted = _with_number_format(path, options, [columns[name] for name in read if name not in text])
    if formatted != options:
        options, before = formatted, columns
        loaded, columns = _profiled(path, options, read, text, is_loaded=is_loaded)
        _check_format(path, options, before, columns)
    targets = [columns[name] for name in options.target or ()]
    task = known_name("--task", options.task or suggest_task(targets), ("classification", "regression"))
    rules = _rules(path, names, columns, given, special - {options.time})
    if not any(rule is not None for rule, _ in rules.values()):
        raise DataError(
            f"{path} has no column to learn from: " + "; ".join(f"{n!r} {why}" for n, (_, why) in rules.items())
        )
    options = replace(
        options,
        task=task,
        read=how,
        rule=[
            f"{name}={text_of(rule)}"
            for name, (rule, _) in rules.items()
            if name and name not in special - {options.time}
        ],
    )
    return OwnData(path, options, columns, rules, loaded)


def _profiled(
    path: Path, options: DataOptions, names: list[str], text: list[str], *, is_loaded: bool
) -> tuple[Loaded | None, Mapping[str, ColumnProfile]]:
    """Return the rows, if they are to be loaded, and the facts about the columns."""
    source: Stream = open_file(path, target=None, features=names, text=text, **reading(options))
    loaded = Loaded(source) if is_loaded else None
    return loaded, profile(loaded or source)


def _with_number_format(path: Path, options: DataOptions, columns: Sequence[ColumnProfile]) -> DataOptions:
    """Return the options with the decimal point and the character between thousands that the numbers show."""
    if kind_of(path) is not CSV or options.decimal or options.thousands:
        return options
    found = suggest_number_format(columns, options.delimiter or ",")
    return options if found.is_plain else replace(options, decimal=found.decimal, thousands=found.thousands)


def _check_format(
    path: Path, options: DataOptions, before: Mapping[str, ColumnProfile], now: Mapping[str, ColumnProfile]
) -> None:
    for name, column in now.items():
        if before[name].kind == "numbers" != column.kind:
            other = next(other for other, facts in now.items() if before[other].kind == "text" and facts.kind != "text")
            raise DataError(
                f"{path}: column {name!r} has numbers with a decimal point, but {other!r} such with a comma; write all "
                "in one way, or decide with --decimal . or --decimal ,"
            )


def _checked(path: Path, options: DataOptions) -> DataOptions:
    """Return the options after checking that they fit together, with those that the file's format decides."""
    if not options.target:
        raise _no_target(path, options)
    options = replace(options, target=columns_of_targets(path, options.target))
    split = {"--group": options.group, "--time": options.time, "--validation-fraction": options.validation_fraction}
    if options.validation is not None and (others := [name for name, value in split.items() if value is not None]):
        raise DataError(f"--validation names the held-out rows, so {others[0]} has no meaning; omit one of them")
    if options.group and options.time:
        raise DataError("rows are split by --group or by --time, not by both; omit one of them")
    if kind_of(path) is CSV and options.delimiter is None:
        options = replace(options, delimiter=sniffed_delimiter(path, options.encoding or "utf-8"))
    if options.validation is None:
        return replace(options, validation_fraction=options.validation_fraction or 0.2)
    return replace(options, validation=existing(options.validation).resolve())


def _no_target(path: Path, options: DataOptions) -> DataError:
    """Return the error for training without a target, with a proposal."""
    names = [
        name for name in column_names(path, delimiter=options.delimiter, encoding=options.encoding or "utf-8") if name
    ]
    likely = suggest_target(names)
    way = " Name it with --target COLUMN"
    if likely:
        way = f" Is it {likely!r}? Then add --target {likely}"
    elif kind_of(path) is NumPyFile:
        way += ", such as --target -1 for the last one, or name a file with as many rows: --target y.npy"
    return DataError(f"which column of {path} is to be predicted? It has {listed_shortly(names)}.{way}")


def _check_columns(path: Path, names: list[str], options: DataOptions, rules: Mapping[str, ColumnRule | None]) -> None:
    columns = {"--target": options.target or [], "--rule": list(rules)}
    columns |= {f"--{name}": [value] for name in ("group", "time") if (value := getattr(options, name))}
    columns |= {"--sample-weight": [options.sample_weight]} if options.sample_weight else {}
    for option, given in columns.items():
        for name in given:
            if name not in names:
                raise DataError(f"{path}: {option}: {unknown_name('column', name, [name for name in names if name])}")


def _rules(
    path: Path,
    names: list[str],
    columns: Mapping[str, ColumnProfile],
    given: Mapping[str, ColumnRule | None],
    special: set[str | None],
) -> dict[str, tuple[ColumnRule | None, str]]:
    """Return the rule of each column that is no target, weight or group, with the reason."""
    rules: dict[str, tuple[ColumnRule | None, str]] = {}
    doubtful = doubtful_text(columns)
    for name in names:
        if name in special:
            continue
        if not name:
            rules[name] = None, "has no name"
        elif name in given:
            rule = given[name]
            rules[name] = rule, "as you said" if rule is None else suggest_rule(columns[name]).reason
        elif name in doubtful:
            raise DataError(
                f"{path}: column {name!r} holds {doubtful[name]}{_examples(columns[name])}. If these stand for missing "
                f"values: --missing TEXT; if the column holds categories: --rule {name}=category; to leave it out: "
                f"--rule {name}=ignore"
            )
        else:
            rules[name] = suggest_rule(columns[name])
    return rules


def _examples(column: ColumnProfile) -> str:
    from gradflow.data.table import is_number

    others = [repr(value) for value in column.counts or () if not is_number(str(value))]
    return f", such as {', '.join(others[:3])}" if others else ""


def _size(path: Path) -> int:
    """Return the bytes of a file or folder, times four where they are compressed."""
    files = [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files)
    is_compressed = kind_of(path) is Parquet or path.suffix in (".gz", ".bz2", ".xz", ".zst")
    return 4 * size if is_compressed else size


def files_of(path: Path, targets: Sequence[str] | None) -> list[Path]:
    """Return the files that are read: one, or all in a folder, and those of targets that are files of their own."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    others = [target_file(name) for name in targets or () if kind_of(path) is NumPyFile]
    return [*files, *dict.fromkeys(other for other in others if other is not None)]


def sha256_of(files: Sequence[Path]) -> str:
    """Return the SHA-256 of some files together, as hex digits."""
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
