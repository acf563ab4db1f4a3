"""Estimators for scikit-learn: change the import, and keep the program.

from gradflow.sklearn import MLPClassifier, MLPRegressor
"""

from gradflow.sklearn.classifier import MLPClassifier
from gradflow.sklearn.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
