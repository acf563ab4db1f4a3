"""One case for each optimizer that takes steps, and PyTorch's with the same settings. A new optimizer adds one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradflow as gf


class LionOfThePaper:
    """Algorithm 2 of Chen et al. (2023), line by line, on PyTorch's arrays, because PyTorch has no Lion."""

    def __init__(self, groups: list[dict[str, Any]], rate: float, *, beta1: float, beta2: float) -> None:
        self.groups, self.rate, self.beta1, self.beta2 = groups, rate, beta1, beta2
        self.m = [0 * group["params"][0] for group in groups]

    def step(self) -> None:
        for index, group in enumerate(self.groups):
            (theta,), m, g = group["params"], self.m[index], group["params"][0].grad
            c = self.beta1 * m + (1 - self.beta1) * g
            theta -= self.rate * (c.sign() + group["weight_decay"] * theta)
            self.m[index] = self.beta2 * m + (1 - self.beta2) * g


@dataclass(frozen=True)
class OptimizerCase:
    """An optimizer with every hyperparameter changed from its default, and PyTorch's with the same.

    Attributes:
        make: makes the optimizer for a learning rate.
        in_torch: makes the other one from ``torch.optim``, groups of parameters and the rate.
        decay: the weight decay of an optimizer that decays weights by itself.
    """

    make: Callable[[float], gf.Optimizer]
    in_torch: Callable[[Any, Any, float], Any]
    decay: float = 0.0


OPTIMIZER_CASES = {
    "gradient_descent": OptimizerCase(
        lambda rate: gf.GradientDescent(rate), lambda torch, groups, rate: torch.SGD(groups, lr=rate)
    ),
    "sgd": OptimizerCase(lambda rate: gf.SGD(rate), lambda torch, groups, rate: torch.SGD(groups, lr=rate)),
    "sgd with momentum": OptimizerCase(
        lambda rate: gf.SGD(rate, momentum=0.7),
        lambda torch, groups, rate: torch.SGD(groups, lr=rate, momentum=0.7),
    ),
    "sgd with nesterov": OptimizerCase(
        lambda rate: gf.SGD(rate, momentum=0.7, nesterov=True),
        lambda torch, groups, rate: torch.SGD(groups, lr=rate, momentum=0.7, nesterov=True),
    ),
    "adam": OptimizerCase(
        lambda rate: gf.Adam(rate, beta1=0.8, beta2=0.95, epsilon=1e-3),
        lambda torch, groups, rate: torch.Adam(groups, lr=rate, betas=(0.8, 0.95), eps=1e-3),
    ),
    "adam without memory": OptimizerCase(
        lambda rate: gf.Adam(rate, beta1=0.0, beta2=0.0, epsilon=1e-3),
        lambda torch, groups, rate: torch.Adam(groups, lr=rate, betas=(0.0, 0.0), eps=1e-3),
    ),
    "adam by default": OptimizerCase(
        lambda rate: gf.Adam(rate),
        lambda torch, groups, rate: torch.Adam(groups, lr=rate),
    ),
    "adamw": OptimizerCase(
        lambda rate: gf.AdamW(rate, beta1=0.8, beta2=0.95, epsilon=1e-3, weight_decay=0.3),
        lambda torch, groups, rate: torch.AdamW(groups, lr=rate, betas=(0.8, 0.95), eps=1e-3),
        decay=0.3,
    ),
    "rmsprop": OptimizerCase(
        lambda rate: gf.RMSprop(rate, beta=0.9, epsilon=1e-3),
        lambda torch, groups, rate: torch.RMSprop(groups, lr=rate, alpha=0.9, eps=1e-3),
    ),
    "adagrad": OptimizerCase(
        lambda rate: gf.Adagrad(rate, epsilon=1e-3),
        lambda torch, groups, rate: torch.Adagrad(groups, lr=rate, eps=1e-3),
    ),
    "lion": OptimizerCase(
        lambda rate: gf.Lion(rate, beta1=0.8, beta2=0.95, weight_decay=0.3),
        lambda torch, groups, rate: LionOfThePaper(groups, rate, beta1=0.8, beta2=0.95),
        decay=0.3,
    ),
    # Of vectors without matrices; those with some are tested in test_muon.py.
    "muon": OptimizerCase(
        lambda rate: gf.Muon(rate, beta1=0.8, beta2=0.95, epsilon=1e-3, weight_decay=0.3),
        lambda torch, groups, rate: torch.AdamW(groups, lr=rate, betas=(0.8, 0.95), eps=1e-3),
        decay=0.3,
    ),
}
