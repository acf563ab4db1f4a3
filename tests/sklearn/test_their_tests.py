"""scikit-learn's own tests of its multi-layer perceptrons, from the installed package, with the import changed."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("sklearn")
import sklearn.neural_network

_FILE = Path(sklearn.neural_network.__file__).parent / "tests" / "test_mlp.py"
_THEIR_IMPORT = "from sklearn.neural_network import MLPClassifier, MLPRegressor"

pytestmark = pytest.mark.filterwarnings(
    "ignore::gradflow.TrainingWarning", "ignore::sklearn.exceptions.ConvergenceWarning"
)

NOT_OURS = {
    "test_fit": "it writes weights into an estimator before its first fit",
    "test_early_stopping_stratified": "our error names the class, [1], theirs says ['True']; tested in test_fits.py",
    "test_gradient": "it calls a private method; tests/layers checks every gradient",
}
"""Tests that do not apply, with the reason."""

_source = _FILE.read_text(encoding="utf-8")
assert _source.count(_THEIR_IMPORT) == 1
exec(compile(_source.replace(_THEIR_IMPORT, "from gradflow.sklearn import MLPClassifier, MLPRegressor"), _FILE, "exec"))
for _name in NOT_OURS:
    del globals()[_name]
