"""Options that several commands share: the fields of a dataclass become options of each command that takes it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints


def with_fields(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameters of a command that are dataclasses by their fields, which typer makes into options."""
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for parameter in inspect.signature(command).parameters.values():
        of = hints[parameter.name]
        if not is_dataclass(of):
            parameters.append(parameter.replace(annotation=of))
            continue
        groups[parameter.name] = of
        field_hints = get_type_hints(of, include_extras=True)
        parameters += [
            inspect.Parameter(field.name, parameter.kind, default=field.default, annotation=field_hints[field.name])
            for field in fields(of)
        ]

    @wraps(command)
    def run(**values: Any) -> None:
        for name, of in groups.items():
            values[name] = of(**{field.name: values.pop(field.name) for field in fields(of)})
        command(**values)

    run.__dict__["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
