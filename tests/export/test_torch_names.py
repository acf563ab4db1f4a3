"""Weights under PyTorch's names: its modules compute the same with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradflow as gf


def network() -> gf.Sequential:
    made = gf.Sequential(
        [
            gf.Dense(4, 5), gf.BatchNorm(5), gf.Tanh(), gf.Dropout(0.5), gf.Dense(5, 6, bias=False),
            gf.LayerNorm(6, epsilon=1e-3), gf.GELU(), gf.Dense(6, 3),
        ],
        backend="numpy",
    )  # fmt: skip
    random = np.random.default_rng(0)
    made.set_weights({name: random.uniform(0.5, 1.5, weight.shape) for name, weight in made.get_weights().items()})
    return made


def test_arrays_are_copies_with_the_names_and_shapes_of_torch() -> None:
    made = network()
    state = gf.to_torch_state_dict(made)
    assert {name: array.shape for name, array in state.items()} == {
        "0.weight": (5, 4), "0.bias": (5,),
        "1.weight": (5,), "1.bias": (5,), "1.running_mean": (5,), "1.running_var": (5,), "1.num_batches_tracked": (),
        "4.weight": (6, 5),
        "5.weight": (6,), "5.bias": (6,),
        "7.weight": (3, 6), "7.bias": (3,),
    }  # fmt: skip
    before = made.get_weights()["0.weight"]
    assert (state["0.weight"] == before.T).all()
    state["0.weight"][...] = 0
    assert (made.get_weights()["0.weight"] == before).all()


@pytest.mark.peers
def test_torch_computes_the_same() -> None:
    import torch
    from torch import nn

    made = network()
    module = nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 6, bias=False),
        nn.LayerNorm(6, eps=1e-3), nn.GELU(), nn.Linear(6, 3),
    )  # fmt: skip
    module.load_state_dict({name: torch.from_numpy(array) for name, array in gf.to_torch_state_dict(made).items()})
    module.eval()
    x = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(made.predict(x), expected, rtol=1e-5, atol=1e-5)


def own_layer() -> Any:
    class Bias(gf.Dense):
        pass

    return Bias(3, 3)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: gf.Residual([gf.Dense(3, 3)]),
        lambda: gf.EmbedColumns(3, [(4, 2)]),
        lambda: gf.PeriodicEmbedding(3),
        lambda: gf.EachMember([gf.Dense(3, 3)]),
        own_layer,
    ],
)
def test_layers_that_torch_has_no_module_for_are_refused(layer: Any) -> None:
    made = gf.Sequential([layer()], backend="numpy")
    with pytest.raises(gf.DataError, match=r"layer 0 is .*torch\.nn\.Sequential has no module"):
        gf.to_torch_state_dict(made)
