"""The data sets that scikit-learn ships, and the recipe with which every library trains on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HIDDEN = (64, 64)
"""Widths of the hidden layers, all with ReLU."""
LEARNING_RATE = 1e-3
"""The constant learning rate of Adam."""
_TEST_SHARE = 0.25


@dataclass(frozen=True)
class Split:
    """Training rows and held-out rows.

    Attributes:
        x_train, x_test: inputs (rows, n_in), float32, standardized by mean and standard deviation of the training rows.
        y_train, y_test: class numbers (rows,), int64; or values (rows,), float32, standardized likewise.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


@dataclass(frozen=True)
class DataSet:
    """A data set, and the parts of the recipe that depend on it.

    Attributes:
        name: as in ``sklearn.datasets.load_<name>``.
        task: "classes", "two classes" (one output with a sigmoid) or "values".
        n_out: the number of outputs.
        batch_size: the rows of a batch; the last one may be smaller.
        epochs: the number of epochs; no library stops earlier.
    """

    name: str
    task: str
    n_out: int
    batch_size: int
    epochs: int

    def split(self, seed: int) -> Split:
        """Hold out a quarter of the rows, by a shuffle with this seed that keeps the class proportions."""
        from sklearn import datasets  # imported here, so that tests of the score reports need no extra
        from sklearn.model_selection import train_test_split
        from sklearn.preprocessing import StandardScaler

        x, y = getattr(datasets, f"load_{self.name}")(return_X_y=True)
        is_values = self.task == "values"
        x_train, x_test, y_train, y_test = train_test_split(
            x, y, test_size=_TEST_SHARE, random_state=seed, stratify=None if is_values else y
        )
        inputs = StandardScaler().fit(x_train)
        if is_values:
            targets = StandardScaler().fit(y_train[:, np.newaxis])
            y_train, y_test = (targets.transform(y[:, np.newaxis])[:, 0].astype(np.float32) for y in (y_train, y_test))
        return Split(
            inputs.transform(x_train).astype(np.float32), y_train, inputs.transform(x_test).astype(np.float32), y_test
        )

    def score(self, predicted: np.ndarray, expected: np.ndarray) -> float:
        """Return the accuracy for classes, or R² (the explained fraction of the variance) for values."""
        if self.task == "values":
            return 1 - float(np.mean((predicted - expected) ** 2) / np.var(expected))
        return float(np.mean(predicted == expected))


DATA_SETS = {
    data_set.name: data_set
    for data_set in (
        DataSet("iris", "classes", n_out=3, batch_size=16, epochs=100),
        DataSet("wine", "classes", n_out=3, batch_size=16, epochs=50),
        DataSet("breast_cancer", "two classes", n_out=1, batch_size=32, epochs=50),
        DataSet("digits", "classes", n_out=10, batch_size=32, epochs=30),
        DataSet("diabetes", "values", n_out=1, batch_size=32, epochs=30),
    )
}
"""The data sets by name, without scikit-learn's linnerud: of its 20 rows only 5 would be held out."""
