"""Colors are told apart by readers with any kind of color vision, and stand out from the page.

Simulated by the matrices of Machado, Oliveira & Fernandes (2009), for the lack of one kind of cone; differences are
distances in CIELAB, where 2.3 is about the least that is noticed.
"""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest

from gradflow.figures import COLORS
from gradflow.layers import Dense
from gradflow.reports import pictures
from gradflow.training.progress.history import History

VISION = {
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
_TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
_WHITE = np.array([0.95047, 1, 1.08883])

visions = pytest.mark.parametrize("vision", VISION)


def rgb(color: str) -> np.ndarray:
    return np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255


def linear(colors: np.ndarray) -> np.ndarray:
    return np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)


def seen(colors: np.ndarray, vision: str) -> np.ndarray:
    """Return sRGB colors (..., 3) as CIELAB, as readers see them."""
    xyz = np.clip(linear(colors) @ np.transpose(VISION[vision]), 0, 1) @ np.transpose(_TO_XYZ) / _WHITE
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    """Return the contrast ratio of two colors (WCAG 2)."""
    low, high = sorted(float(linear(color) @ [0.2126, 0.7152, 0.0722]) for color in (one, other))
    return (high + 0.05) / (low + 0.05)


@visions
def test_the_palette_is_told_apart(vision: str) -> None:
    colors = seen(np.array(list(map(rgb, COLORS))), vision)
    pairs = [np.linalg.norm(one - other) for one, other in itertools.combinations(colors, 2)]
    assert min(pairs) > 15
    assert np.linalg.norm(colors[0] - colors[1]) > 60  # training and validation


def test_the_first_colors_stand_out_from_the_page() -> None:
    assert min(contrast(rgb(color), np.ones(3)) for color in COLORS[:4]) > 3


@visions
def test_lighter_is_more_in_maps_of_colors(vision: str) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    colors = matplotlib.colormaps["cividis"](np.linspace(0, 1, 33))[:, :3]
    assert np.diff(seen(colors, vision)[:, 0]).min() > 1


def test_numbers_in_the_cells_of_a_confusion_matrix_are_readable() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    for fraction in np.linspace(0, 1, 101):
        number = np.zeros(3) if fraction > 0.5 else np.ones(3)
        assert contrast(number, np.array(matplotlib.colormaps["cividis"](fraction)[:3])) > 4


@visions
def test_curves_are_told_apart_on_the_picture(vision: str) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.image import imread

    history = History()
    for epoch in range(1, 6):
        history.append({"loss": 1 / epoch, "val_loss": 1.5 / epoch})
    figure, png = pictures.curves(history, "loss", [Dense(2, 1)]), io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(png, format="png", dpi=160)
    pixels = imread(io.BytesIO(png.getvalue()))[..., :3].reshape(-1, 3).astype(float)
    places = [np.abs(pixels - rgb(color)).max(axis=1) < 0.01 for color in COLORS[:2]]
    assert all(place.sum() > 200 for place in places)
    page, *lines = (seen(pixels[place], vision).mean(axis=0) for place in (pixels.min(axis=1) > 0.99, *places))
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations([page, *lines], 2)) > 30
