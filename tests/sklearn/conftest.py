"""A fixture of scikit-learn's own tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def global_random_seed() -> int:
    """The seed that scikit-learn's tests use unless told otherwise."""
    return 42
