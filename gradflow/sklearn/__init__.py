"""Estimators for scikit-learn: change the import, and keep the program.

from gradflow.sklearn import MLPClassifier, MLPRegressor
"""

from gradflow.installation import pip_install

try:
    from gradflow.sklearn.classifier import MLPClassifier
    from gradflow.sklearn.regressor import MLPRegressor
    from gradflow.sklearn.search import PackSearchCV
except ImportError as error:
    if (error.name or "").partition(".")[0] != "sklearn":
        raise
    raise ImportError(
        f"gradflow.sklearn needs scikit-learn 1.6 or later ({error}): {pip_install('sklearn')}", name=error.name
    ) from error

__all__ = ["MLPClassifier", "MLPRegressor", "PackSearchCV"]
