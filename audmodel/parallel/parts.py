"""Chunks of a list, and calls that have one in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from typing import Any


if TYPE_CHECKING:
    import inspect


class BatchedArgument:
    """Where the list is among the arguments of a call."""

    def __init__(
        self,
        function: Callable[..., Any],
        signature: inspect.Signature,
        name: str | None,
    ) -> None:
        self.signature = signature
        parameters = list(signature.parameters.values())
        # Place inside of *args or **kwargs
        self.inside: int | str | None = None
        if name is None:
            if parameters and parameters[0].name == "self":
                del parameters[0]
            if not parameters or parameters[0].kind is parameters[0].VAR_KEYWORD:
                raise ValueError(
                    f"{name_of(function)}() has no parameter that could hold a list."
                )
            if parameters[0].kind is parameters[0].VAR_POSITIONAL:
                self.inside = 0
            self.parameter = self.name = parameters[0].name
            return
        for parameter in parameters:
            if parameter.kind is parameter.VAR_KEYWORD:
                self.parameter, self.name, self.inside = parameter.name, name, name
                return
            if parameter.name == name:
                if parameter.kind is parameter.VAR_POSITIONAL:
                    break
                self.parameter = self.name = name
                return
        names = ", ".join(parameter.name for parameter in parameters)
        raise ValueError(
            f"batched_arg must name a parameter of {name_of(function)}({names}) "
            f"that holds one argument, but is {name!r}."
        )

    def of(self, bound: inspect.BoundArguments) -> list[Any]:
        """The list in the arguments."""
        if self.parameter not in bound.arguments:
            bound.apply_defaults()
        value = bound.arguments[self.parameter]
        if self.inside is not None:
            try:
                value = value[self.inside]
            except (IndexError, KeyError):
                raise TypeError(
                    f"missing the argument {self.name!r} with the list to split"
                ) from None
        if not isinstance(value, list):
            raise ValueError(
                f"The batched argument {self.name!r} must be a list, "
                f"but is {type(value).__name__}."
            )
        return value

    def replaced(
        self,
        bound: inspect.BoundArguments,
        part: list[Any],
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with a chunk in place of the list."""
        value: Any = part
        if self.inside == 0:
            value = (part, *bound.arguments[self.parameter][1:])
        elif self.inside is not None:
            value = {**bound.arguments[self.parameter], self.inside: part}
        call = self.signature.bind_partial()
        call.arguments.update({**bound.arguments, self.parameter: value})
        return call.args, call.kwargs


class Call:
    """A call that carries its arguments.

    Executors differ in which keyword arguments they keep for themselves,
    and Dask looks into arguments it is given,
    so they get a call without any.

    """

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        # Shown by dashboards
        self.__name__ = name_of(function)

    def __call__(self) -> Any:
        """Result of the function."""
        return self.function(*self.args, **self.kwargs)

    def __dask_tokenize__(self) -> str:
        # Dask computes equal calls once,
        # but a function that has effects must see each element of the list
        import uuid

        return uuid.uuid4().hex


def name_of(function: Callable[..., Any]) -> str:
    """Name of a function, or of the type of what is called."""
    return getattr(function, "__name__", type(function).__name__)


def split(elements: list[Any], num_parts: int) -> list[list[Any]]:
    """Chunks of a list, none of them empty, of lengths as equal as they can be."""
    num_parts = min(num_parts, len(elements))
    if num_parts == 0:
        return []
    length, longer = divmod(len(elements), num_parts)
    parts = []
    start = 0
    for number in range(num_parts):
        stop = start + length + (number < longer)
        parts.append(elements[start:stop])
        start = stop
    return parts
