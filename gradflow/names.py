"""Registration of activations, losses, optimizers, schedules and metrics by name; each name belongs to one class."""

from __future__ import annotations

import sys
from typing import Any, TypeVar

from gradflow.errors import DataError

_Class = TypeVar("_Class", bound=type[Any])

LARGER_IS_BETTER: dict[str, bool | None] = {}
"""True if larger values of a metric are better, by its name in the history, and None if that is unknown; metrics
register themselves."""


def larger_is_better(name: str) -> bool:
    """True if larger is better for a value of this name, of the training or the validation data.

    Raises:
        DataError: if it is that of a function that does not say so.
    """
    metric = name.removeprefix("val_")
    is_better = LARGER_IS_BETTER.get(metric, name.endswith("accuracy"))
    if is_better is None:
        raise DataError(
            f"nobody knows if larger values of {name!r} are better: set {metric}.larger_is_better of that function to "
            "True or False before you pass it to a Trainer"
        )
    return is_better


def register(classes: dict[str, _Class], cls: _Class, base: type[Any]) -> None:
    """Register a new class under its name. A subclass that does not define a name of its own gets its class name, so
    that it is not mistaken for its parent class.

    Args:
        classes: the classes by name.
        cls: the new class.
        base: the common base class.

    Raises:
        DataError: if another class has the name, unless the new one is the same class defined again, as when a notebook
            cell runs twice.
    """
    owner = next((parent for parent in cls.__mro__ if "name" in vars(parent)), None)
    states_none = owner is None or (owner is not cls and issubclass(owner, base))
    if states_none and is_built_in(cls):
        return  # a common base class
    if states_none:
        is_free = cls.__name__ not in classes or redefines(cls, classes[cls.__name__])
        cls.name = cls.__name__ if is_free else f"{cls.__module__}.{cls.__qualname__}"
    kind = base.__name__.lower()
    if not isinstance(cls.name, str):
        raise DataError(f"the name of {kind} {cls.__name__} must be a string, got {cls.name!r}")
    known = classes.get(cls.name)
    if known is not None and not redefines(cls, known):
        article = "an" if kind[0] in "aeiou" else "a"
        raise DataError(
            f"{article} {kind} named {cls.name!r} already exists: {known.__module__}.{known.__qualname__}; give "
            f"{cls.__qualname__} another name"
        )
    classes[cls.name] = cls


def redefines(new: Any, known: Any) -> bool:
    """True if a class or function redefines another one: in the same place, or in the same notebook."""
    return is_same_place(new, known) or new.__module__ == known.__module__ == "__main__"


def is_same_place(one: Any, other: Any) -> bool:
    """True if two classes or functions were defined in the same place of the same module.

    A script that is also imported by another part of the program is two modules with one file.
    """
    modules = {one.__module__, other.__module__}
    files = {getattr(sys.modules.get(module), "__file__", None) for module in modules}
    is_one_file = len(modules) == 1 or (len(files) == 1 and None not in files)
    is_same: bool = is_one_file and one.__qualname__ == other.__qualname__
    return is_same


def is_built_in(cls: Any) -> bool:
    """True if a class or function is gradflow's own."""
    package: str = cls.__module__.partition(".")[0]
    return package == __name__.partition(".")[0]


def import_path(function: Any) -> str:
    """Return where a function was defined, as "module:name"."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', None) or type(function).__module__}:{name}"


def function_at(path: str) -> Any:
    """Return the function that `import_path` gave, of a module that has been imported; None if it is not there."""
    module, _, name = path.partition(":")
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
