"""Names that other libraries use for losses, optimizers etc., so that errors can suggest gradflow's names."""

from __future__ import annotations

from collections.abc import Sequence

# Keys are lowercase, without punctuation. The names are those of PyTorch, Keras, scikit-learn and the papers.
SYNONYMS: dict[str, dict[str, tuple[str, ...]]] = {
    "loss": {
        "mse": ("mean_squared_error",),
        "mseloss": ("mean_squared_error",),
        "l2": ("mean_squared_error",),
        "l2loss": ("mean_squared_error",),
        "rmse": ("mean_squared_error",),
        "squarederror": ("mean_squared_error",),
        "mae": ("mean_absolute_error",),
        "l1": ("mean_absolute_error",),
        "l1loss": ("mean_absolute_error",),
        "absoluteerror": ("mean_absolute_error",),
        "smoothl1": ("huber",),
        "smoothl1loss": ("huber",),
        "pinball": ("quantile",),
        "poissonnll": ("poisson",),
        "poissonnllloss": ("poisson",),
        "ce": ("softmax_cross_entropy", "binary_cross_entropy"),
        "crossentropy": ("softmax_cross_entropy", "binary_cross_entropy"),
        "crossentropyloss": ("softmax_cross_entropy",),
        "categoricalcrossentropy": ("softmax_cross_entropy",),
        "sparsecategoricalcrossentropy": ("softmax_cross_entropy",),
        "nll": ("softmax_cross_entropy",),
        "nllloss": ("softmax_cross_entropy",),
        "logloss": ("softmax_cross_entropy", "binary_cross_entropy"),
        "softmax": ("softmax_cross_entropy",),
        "bce": ("binary_cross_entropy",),
        "bceloss": ("binary_cross_entropy",),
        "bcewithlogits": ("binary_cross_entropy",),
        "bcewithlogitsloss": ("binary_cross_entropy",),
        "logistic": ("binary_cross_entropy",),
        "sigmoid": ("binary_cross_entropy",),
    },
    "optimizer": {
        "momentum": ("sgd",),
        "nesterov": ("sgd",),
        "nag": ("sgd",),
        "gd": ("gradient_descent",),
        "adamax": ("adam",),
        "nadam": ("adam",),
        "radam": ("adam",),
        "amsgrad": ("adam",),
        "adadelta": ("rmsprop",),
        "bfgs": ("lbfgs",),
        "lbfgsb": ("lbfgs",),
    },
    "activation": {
        "swish": ("silu",),
        "hardswish": ("silu",),
        "logistic": ("sigmoid",),
        "expit": ("sigmoid",),
        "hardsigmoid": ("sigmoid",),
        "linear": ("identity",),
        "none": ("identity",),
        "rectifier": ("relu",),
        "relu6": ("relu",),
        "lrelu": ("leaky_relu",),
        "prelu": ("leaky_relu",),
        "hardtanh": ("tanh",),
    },
    "initializer": {
        "he": ("he_normal", "he_uniform"),
        "kaiming": ("he_normal", "he_uniform"),
        "kaimingnormal": ("he_normal",),
        "kaiminguniform": ("he_uniform",),
        "glorot": ("glorot_uniform", "glorot_normal"),
        "xavier": ("glorot_uniform", "glorot_normal"),
        "xavieruniform": ("glorot_uniform",),
        "xaviernormal": ("glorot_normal",),
        "lecun": ("lecun_normal", "lecun_uniform"),
        "zero": ("zeros",),
    },
    "metric": {
        "acc": ("accuracy",),
        "accuracyscore": ("accuracy",),
        "binaryaccuracy": ("accuracy",),
        "categoricalaccuracy": ("accuracy",),
        "auc": ("roc_auc",),
        "auroc": ("roc_auc",),
        "rocaucscore": ("roc_auc",),
        "mse": ("mean_squared_error",),
        "rmse": ("root_mean_squared_error",),
        "mae": ("mean_absolute_error",),
        "r2score": ("r2",),
        "rsquared": ("r2",),
        "f1score": ("f1",),
        "fscore": ("f1",),
        "crossentropy": ("log_loss",),
        "nll": ("log_loss",),
        "sensitivity": ("recall",),
        "tpr": ("recall",),
        "ppv": ("precision",),
        "balancedacc": ("balanced_accuracy",),
        "topkaccuracy": ("top_3_accuracy",),
        "topkcategoricalaccuracy": ("top_3_accuracy",),
        "top5": ("top_5_accuracy",),
        "top3": ("top_3_accuracy",),
    },
    "dtype": {
        "float": ("float32", "float64"),
        "single": ("float32",),
        "fp32": ("float32",),
        "f4": ("float32",),
        "double": ("float64",),
        "fp64": ("float64",),
        "f8": ("float64",),
    },
    "precision": {
        "fp16": ("float16",),
        "half": ("float16",),
        "amp": ("float16", "bfloat16"),
        "bf16": ("bfloat16",),
        "fp32": ("float32",),
        "single": ("float32",),
    },
}
"""gradflow's names, by kind and foreign name."""


def meant_names(kind: str, name: str, valid: Sequence[str]) -> Sequence[str]:
    """Return the valid names that an unknown one probably means: its synonyms, else the most similar, else none."""
    import difflib

    plain = _plain(name)
    if synonyms := SYNONYMS.get(kind, {}).get(plain):
        return synonyms
    if same := [other for other in valid if _plain(other) == plain]:
        return same
    return difflib.get_close_matches(name[:100], valid, n=1, cutoff=0.5)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
