"""What users import: names, signatures, types, and what they say of themselves.

All of it is in ``public.txt``, into which a change that is meant is written by

    python -m tests.test_public

"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
import concurrent.futures
import inspect
from pathlib import Path
import pickle
import subprocess
import sys
import types
import typing
from typing import Any

import audbackend
import pytest

import audmodel


MODULES = (audmodel, audmodel.errors, audmodel.parallel)
SNAPSHOT = Path(__file__).with_name("public.txt")
# How objects are made and called, and what a "with" statement gives
SPECIAL = ("__init__", "__call__", "__enter__", "__aenter__")
# Without an underscore, since other rooms of the package use it
INTERNAL = {f"audmodel.Repository.{name}" for name in ("access", "connect", "locate")}


def public_names(module: types.ModuleType) -> list[str]:
    """Names that users may rely on."""
    return sorted([*module.__all__, *(["open"] if module is audmodel else [])])


def public_objects() -> Iterator[tuple[str, Any]]:
    """Functions and classes by the name that users import."""
    for module in MODULES:
        for name in public_names(module):
            value = getattr(module, name)
            if callable(value):
                yield f"{module.__name__}.{name}", value


def members(name: str, cls: type) -> Iterator[tuple[str, Any]]:
    """Functions and properties of a class that are for users."""
    for member, value in vars(cls).items():
        is_public = not member.startswith("_") or member in SPECIAL
        if is_public and f"{name}.{member}" not in INTERNAL:
            function = value.__func__ if isinstance(value, classmethod) else value
            if inspect.isfunction(function) or isinstance(function, property):
                yield f"{name}.{member}", function


PUBLIC = dict(public_objects())
CLASSES = {name: cls for name, cls in PUBLIC.items() if inspect.isclass(cls)}
FUNCTIONS = {
    name: function for name, function in PUBLIC.items() if name not in CLASSES
} | {
    member: function
    for name, cls in CLASSES.items()
    for member, function in members(name, cls)
}


# Snapshot ------------------------------------------------------------------


class Plain:
    """Annotation that is shown as it stands in the code."""

    def __init__(self, annotation: Any) -> None:
        is_text = isinstance(annotation, str)
        self.text = annotation if is_text else inspect.formatannotation(annotation)

    def __repr__(self) -> str:
        return self.text


def signature_lines(name: str, function: Any) -> list[str]:
    """Signature on one line, or with each parameter on its own."""
    signature = inspect.signature(function)
    parts: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.annotation is not parameter.empty:
            parameter = parameter.replace(annotation=Plain(parameter.annotation))
        is_named = parameter.kind is parameter.KEYWORD_ONLY
        if is_named and not any(part.startswith("*") for part in parts):
            parts.append("*")
        parts.append(str(parameter))
    returns = f"-> {Plain(signature.return_annotation)}"
    line = f"{name}({', '.join(parts)}) {returns}"
    if len(line) <= 88:
        return [line]
    return [f"{name}(", *(f"    {part}," for part in parts), f") {returns}"]


def lines_about(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, property):
        assert value.fget is not None
        yield f"{name}: {Plain(inspect.signature(value.fget).return_annotation)}"
    elif inspect.isclass(value):
        yield f"class {name}({', '.join(base.__name__ for base in value.__bases__)})"
        for member, function in members(name, value):
            yield from (f"    {line}" for line in lines_about(member, function))
    elif callable(value):
        yield from signature_lines(name, value)
    else:
        yield f"{name}: {type(value).__name__}"


def described() -> str:
    """All public names, with signatures of functions and bases of classes."""
    lines = [
        line
        for module in MODULES
        for name in public_names(module)
        for line in lines_about(f"{module.__name__}.{name}", getattr(module, name))
    ]
    return "\n".join(lines) + "\n"


def test_public_names_signatures_and_types() -> None:
    assert described().splitlines() == SNAPSHOT.read_text("utf-8").splitlines(), (
        "If the change is meant, run: python -m tests.test_public"
    )


# Types ---------------------------------------------------------------------

# Names that are imported for type checkers alone
FOR_TYPE_CHECKERS = {
    "Executor": concurrent.futures.Executor,
    "TracebackType": types.TracebackType,
    "audbackend": audbackend,
    **{name.rpartition(".")[2]: cls for name, cls in CLASSES.items()},
}


def own_classes(annotation: Any) -> Iterator[type]:
    """Classes of the package that an annotation names."""
    for argument in typing.get_args(annotation):
        yield from own_classes(argument)
    if isinstance(annotation, list):
        for argument in annotation:
            yield from own_classes(argument)
    if inspect.isclass(annotation) and annotation.__module__.startswith("audmodel"):
        yield annotation


def annotated_with(function: Any) -> list[Any]:
    function = function.fget if isinstance(function, property) else function
    function = inspect.unwrap(function)
    names = {**FOR_TYPE_CHECKERS, **function.__globals__}
    return list(typing.get_type_hints(function, names).values())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_and_return_types_that_users_can_import(name: str) -> None:
    for annotation in annotated_with(FUNCTIONS[name]):
        for cls in own_classes(annotation):
            assert cls in CLASSES.values(), cls


@pytest.mark.parametrize("name", CLASSES)
def test_fields_have_types_that_users_can_import(name: str) -> None:
    for annotation in typing.get_type_hints(CLASSES[name]).values():
        for cls in own_classes(annotation):
            assert cls in CLASSES.values(), cls


# Identity ------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLIC)
def test_what_users_import_says_so(name: str) -> None:
    value = PUBLIC[name]
    assert f"{value.__module__}.{value.__qualname__}" == name
    assert pickle.loads(pickle.dumps(value)) is value


def run_python(code: str, data: bytes = b"") -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], input=data, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode().strip()


def test_what_is_imported_later_is_unpickled_in_another_process() -> None:
    values = [
        audmodel.Leftover("/_uid/x", "claim", None, "2026-01-01"),
        audmodel.RepositoryReport("r", (audmodel.Check("n", True, "s", "m"),)),
        audmodel.errors.RepositoryError("What, why, and what to do."),
        audmodel.parallel.ReductionComposition(),
    ]
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer))"
    assert run_python(code, pickle.dumps(values)) == str(values)


# Import --------------------------------------------------------------------


def test_star_replaces_no_builtin_and_gives_all_other_names() -> None:
    namespace: dict[str, Any] = {}
    exec("from audmodel import *", namespace)
    del namespace["__builtins__"]
    assert set(namespace).isdisjoint(dir(builtins))
    assert sorted([*namespace, "open"]) == public_names(audmodel)


@pytest.mark.parametrize("module", MODULES)
def test_names_are_shown_by_dir(module: types.ModuleType) -> None:
    shown = [name for name in dir(module) if not name.startswith("_")]
    assert set(public_names(module)) <= set(shown)


def test_parallel_is_there_after_import_and_not_imported_by_it() -> None:
    code = """
import sys
import audmodel
before = "audmodel.parallel" in sys.modules
print(before, audmodel.parallel.prefetch.__name__, "parallel" in dir(audmodel))
"""
    assert run_python(code) == "False prefetch True"


def test_type_checkers_know_the_names_that_are_imported_later() -> None:
    results: list[int] = list(audmodel.parallel.prefetch(abs, [-1]))
    assert results == [1]
    # An ignore that is not needed is an error of the type checker
    with pytest.raises(AttributeError, match="'audmodel' has no attribute 'missing'"):
        audmodel.missing  # type: ignore[attr-defined] # noqa: B018
    with pytest.raises(AttributeError, match="has no attribute 'missing'"):
        audmodel.errors.missing  # type: ignore[attr-defined] # noqa: B018


if __name__ == "__main__":
    SNAPSHOT.write_text(described(), "utf-8")
