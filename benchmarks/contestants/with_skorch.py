"""skorch: PyTorch with the interface of scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from skorch import NeuralNetClassifier


class Perceptron(torch.nn.Module):
    """A multi-layer perceptron with ReLU that returns logits.

    Args:
        n_in, n_out: the numbers of inputs and outputs.
        hidden: the widths of the hidden layers.
    """

    def __init__(self, n_in: int, n_out: int, hidden: Sequence[int] = (64,)) -> None:
        super().__init__()
        sizes = [n_in, *hidden]
        layers: list[torch.nn.Module] = []
        for before, after in zip(sizes, hidden, strict=False):
            layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
        self.layers = torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of rows x."""
        logits: torch.Tensor = self.layers(x)
        return logits


def classifier(n_in: int, n_out: int, *, epochs: int, batch_size: int) -> Any:
    """Return a classifier that trains for so many epochs on all of its rows, with Adam."""
    return NeuralNetClassifier(
        Perceptron,
        module__n_in=n_in,
        module__n_out=n_out,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        max_epochs=epochs,
        batch_size=batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
