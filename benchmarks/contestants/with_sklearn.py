"""scikit-learn: MLPClassifier or MLPRegressor with our initial weights, one epoch per call of partial_fit.

Its Adam divides by √v + ε before the bias correction of v instead of after it. It therefore gets an ε that is
equivalent to 1e-8 in the first step; later, when it is equivalent to less, it matters less. With two classes it has one
sigmoid output instead of two softmax outputs: for network T the first loss is the same, later ones differ, and the time
is that of a slightly smaller network.
"""

from __future__ import annotations

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor

from benchmarks.networks import LEARNING_RATES, Network


class Sklearn:
    """scikit-learn; validation of the data is part of partial_fit and is spread over the steps of an epoch."""

    def __init__(self, network: Network, optimizer: str) -> None:
        self._x, targets = network.data()
        self._targets = targets.ravel()
        self._described = network
        self._model = (MLPRegressor if network.is_regression else MLPClassifier)(
            hidden_layer_sizes=network.sizes[1:-1],
            solver=optimizer,
            alpha=0.0,
            batch_size=network.batch_size,
            learning_rate_init=LEARNING_RATES[optimizer],
            epsilon=1e-8 * (1 - 0.999) ** 0.5,
            momentum=0.0,
            nesterovs_momentum=False,
            shuffle=False,
        )
        # The first call allocates the arrays; then they get our values, and the optimizer is reset.
        classes = {} if network.is_regression else {"classes": np.arange(network.sizes[-1])}
        rows = network.batch_size
        self._model.partial_fit(self._x[:rows], self._targets[:rows], **classes)
        for layer, (weight, bias) in enumerate(network.initial_parameters()):
            if network.sizes[-1] == 2 and layer == len(network.layers) - 1:
                weight, bias = weight[:, 1:] - weight[:, :1], bias[1:] - bias[:1]
            self._model.coefs_[layer][...] = weight
            self._model.intercepts_[layer][...] = bias
        del self._model._optimizer
        self._predict = self._model.predict if network.is_regression else self._model.predict_proba

    def train(self) -> None:
        self._model.partial_fit(self._x, self._targets)

    def losses(self, steps: int) -> list[float]:
        batches = self._described.first_batches(steps)
        return [float(self._model.partial_fit(x, targets.ravel()).loss_) for x, targets in batches]

    def predict_one(self) -> None:
        self._predict(self._x[:1])
