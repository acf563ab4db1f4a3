"""One fit with one recipe in each library, as compared by `benchmarks.accuracy`.

Weights are initialized by Glorot's uniform rule, which is scikit-learn's (it draws biases the same way; the others
start at zero). Each library draws them, and shuffles, by itself. No L2 penalty, no early stopping, float32.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable

import numpy as np

from benchmarks.real_data import DATA_SETS, HIDDEN, LEARNING_RATE, DataSet, Split


def fit_and_score(library: str, name: str, seed: int) -> tuple[float, float]:
    """Train on a data set; return the seconds from arrays to a trained model, and the score on the held-out rows."""
    data_set = DATA_SETS[name]
    split = data_set.split(seed)
    began = time.perf_counter()
    predict = LIBRARIES[library](data_set, split, seed)
    seconds = time.perf_counter() - began
    return seconds, data_set.score(predict(split.x_test), split.y_test)


def _gradflow(data_set: DataSet, split: Split, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    import gradflow as gf

    sizes = [split.x_train.shape[1], *HIDDEN, data_set.n_out]
    network = gf.MLP(sizes, initializer="glorot_uniform", seed=seed, backend="numpy")
    losses = {"classes": "softmax_cross_entropy", "two classes": "binary_cross_entropy", "values": "half_squared_error"}
    trainer = gf.Trainer(network, losses[data_set.task], gf.Adam(LEARNING_RATE))
    trainer.fit(split.x_train, split.y_train, epochs=data_set.epochs, batch_size=data_set.batch_size, progress=False)
    if data_set.task == "values":
        return lambda x: network.predict(x)[:, 0]
    return network.predict_classes


def _torch(data_set: DataSet, split: Split, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Train eagerly with the fused optimizer; each epoch is gathered at once and its batches are views: no
    DataLoader."""
    import torch

    torch.manual_seed(seed)
    layers: list[torch.nn.Module] = []
    sizes = [split.x_train.shape[1], *HIDDEN, data_set.n_out]
    for n_in, n_out in itertools.pairwise(sizes):
        dense = torch.nn.Linear(n_in, n_out)
        torch.nn.init.xavier_uniform_(dense.weight)
        torch.nn.init.zeros_(dense.bias)
        layers += [dense, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    functional = torch.nn.functional
    loss = {
        "classes": functional.cross_entropy,
        "two classes": functional.binary_cross_entropy_with_logits,
        "values": lambda outputs, values: functional.mse_loss(outputs, values) / 2,
    }[data_set.task]
    x, y = torch.from_numpy(split.x_train), torch.from_numpy(split.y_train)
    if data_set.task != "classes":
        y = y.to(torch.float32)[:, None]
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    for _ in range(data_set.epochs):
        order = torch.randperm(len(x))
        for x_batch, y_batch in zip(
            x[order].split(data_set.batch_size), y[order].split(data_set.batch_size), strict=True
        ):
            optimizer.zero_grad(set_to_none=True)
            loss(model(x_batch), y_batch).backward()
            optimizer.step()

    def predict(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            outputs = model(torch.from_numpy(x))
        if data_set.task == "classes":
            return outputs.argmax(1).numpy()
        return outputs[:, 0].numpy() if data_set.task == "values" else (outputs[:, 0] > 0).numpy().astype(np.int64)

    return predict


def _torch_on_one_thread(data_set: DataSet, split: Split, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Train without sharing work between threads, which suits small networks better."""
    import torch

    torch.set_num_threads(1)
    return _torch(data_set, split, seed)


def _sklearn(data_set: DataSet, split: Split, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    kind = MLPRegressor if data_set.task == "values" else MLPClassifier
    model = kind(
        hidden_layer_sizes=HIDDEN,
        alpha=0.0,
        batch_size=data_set.batch_size,
        learning_rate_init=LEARNING_RATE,
        max_iter=data_set.epochs,
        n_iter_no_change=data_set.epochs + 1,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # It stops after the given number of epochs, as the others do.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(split.x_train, split.y_train)
    return model.predict


LIBRARIES: dict[str, Callable[[DataSet, Split, int], Callable[[np.ndarray], np.ndarray]]] = {
    "gradflow": _gradflow,
    "PyTorch": _torch,
    "PyTorch, one thread": _torch_on_one_thread,
    "scikit-learn": _sklearn,
}
"""Functions, by library, that train on a split with a seed and return a predict function. Each belongs into a
process of its own."""
