"""The base class of everything that is known by a name and made again from its arguments."""

from __future__ import annotations

from typing import Any, ClassVar

from gradflow.names import register


class Configurable:
    """An object that its `config` describes: the arguments that recreate it.

    The base class of a family, such as `Loss`, states the family's registry: ``class Loss(Configurable,
    registry=LOSSES)``. Its subclasses then register themselves under their `name`.
    """

    name: ClassVar[str]
    fractions: ClassVar[tuple[str, ...]] = ()
    """The attributes that may be a schedule, of values below 1."""
    _family: ClassVar[tuple[dict[str, Any], type[Any]] | None] = None
    """The registry of the classes by name, and the base class they share."""

    def __init_subclass__(cls, registry: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if registry is not None:
            cls._family = registry, cls
        elif cls._family is not None:
            classes, base = cls._family
            register(classes, cls, base)

    def config(self) -> dict[str, Any]:
        """Return the arguments that recreate this object: numbers, strings and booleans, or lists of these."""
        return {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.config().items())})"
