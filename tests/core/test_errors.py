"""Errors: one tree, compatible bases, messages that survive a process."""

from __future__ import annotations

import ast
from collections.abc import Iterator
import copy
import inspect
import pickle
import re

import audbackend
import filelock
import pytest

import audmodel
from audmodel import errors
from tests.conftest import ROOT


NAMES = sorted(name for name in dir(errors) if name.endswith("Error"))
# What audmodel 1.x raised for the same mistakes
COMPATIBLE: dict[str, list[type[BaseException]]] = {
    "AliasNotFoundError": [RuntimeError],
    "ArchiveError": [RuntimeError],
    "ArchiveMismatchError": [RuntimeError],
    "AudmodelError": [],
    "CacheError": [OSError],
    "ConfigurationError": [ValueError],
    "DiskFullError": [OSError],
    "LockTimeoutError": [filelock.Timeout, TimeoutError],
    "FileChangedError": [RuntimeError],
    "InvalidDataError": [RuntimeError, ValueError],
    "InvalidDocumentError": [ValueError],
    "InvalidFolderError": [RuntimeError, ValueError],
    "InvalidIdError": [RuntimeError, ValueError],
    "InvalidInputError": [ValueError],
    "ModelExistsError": [RuntimeError],
    "ModelNotFoundError": [RuntimeError],
    "PublishConflictError": [RuntimeError],
    "RepositoryError": [audbackend.BackendError],
    "RepositoryNotFoundError": [audbackend.BackendError],
    "RepositoryUnreachableError": [audbackend.BackendError],
}


def test_names() -> None:
    assert set(COMPATIBLE) <= set(NAMES)


def test_docstring_draws_the_tree() -> None:
    drawn: dict[str, tuple[str | None, str | None]] = {}
    parents: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│ ├└─]*)(\w+Error)(?: \(([\w.]+)\))?", line)
        if match:
            depth = len(match[1]) // 4
            del parents[depth:]
            drawn[match[2]] = (parents[-1] if parents else None, match[3])
            parents.append(match[2])
    assert sorted(drawn) == NAMES
    for name, (parent, builtin) in drawn.items():
        bases = [base.__name__ for base in getattr(errors, name).__bases__]
        expected = [
            part.rpartition(".")[2] for part in (parent or "Exception", builtin) if part
        ]
        assert sorted(bases) == sorted(expected), name


@pytest.mark.parametrize("name", NAMES)
def test_bases(name: str) -> None:
    error_class = getattr(errors, name)
    assert issubclass(error_class, errors.AudmodelError)
    for base in COMPATIBLE.get(name, []):
        assert issubclass(error_class, base)
    assert error_class.__doc__


@pytest.mark.parametrize("name", NAMES)
def test_errors_survive_a_process(name: str) -> None:
    error_class = getattr(errors, name)
    error = error_class("What, why, and what to do: 'ä'.")
    error.__cause__ = OSError(5, "reason")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is error_class
        assert str(other) == str(error) == "What, why, and what to do: 'ä'."


def test_errors_of_the_operating_system_keep_their_number() -> None:
    error = errors.DiskFullError(28, "The model needs 5 bytes.")
    other = pickle.loads(pickle.dumps(error))
    assert other.errno == 28
    assert "The model needs 5 bytes." in str(other)


def test_backend_error_has_its_cause() -> None:
    cause = OSError("reason")
    assert errors.RepositoryError("message", cause).exception is cause
    alone = errors.RepositoryError("message")
    assert alone.exception is alone


def test_errors_of_the_backend_are_in_the_package_without_importing_it() -> None:
    assert errors.RepositoryError.__name__ in dir(errors)
    with pytest.raises(AttributeError, match="NoSuchError"):
        errors.NoSuchError  # type: ignore[attr-defined] # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_public_functions_name_the_error(name: str) -> None:
    """Each error is one that some function says it raises."""
    documented = " ".join(
        inspect.getdoc(getattr(audmodel, function)) or ""
        for function in dir(audmodel)
        if inspect.isfunction(getattr(audmodel, function))
    )
    # Or it is a case of one that is named
    cases = [
        base.__name__
        for base in getattr(errors, name).__mro__
        if base.__name__ in NAMES and base is not errors.AudmodelError
    ]
    assert any(case in documented for case in cases) or name == "AudmodelError"


# Messages are sentences ------------------------------------------------------

# Their messages stand inside others
FRAGMENTS = {"ArchiveError", "ArchiveMismatchError"}


def messages() -> Iterator[tuple[str, list[ast.expr]]]:
    """Places that raise an error of ours, and the parts of its message."""
    for path in sorted((ROOT / "audmodel").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(getattr(node, "func", None), "id", "")
            if not isinstance(node, ast.Call) or name not in set(NAMES) - FRAGMENTS:
                continue
            for argument in node.args:
                if isinstance(argument, ast.JoinedStr):
                    yield f"{path.name}:{node.lineno}", argument.values
                elif isinstance(argument, ast.Constant):
                    yield f"{path.name}:{node.lineno}", [argument]


def test_messages_end_like_sentences() -> None:
    """Else another sentence that follows would run into them."""
    unfinished = []
    for place, parts in messages():
        texts = [part.value for part in parts if isinstance(part, ast.Constant)]
        last = parts[-1]
        # A value is a sentence if it follows one, or is all there is.
        # Constants are sentences
        is_constant = isinstance(last, ast.FormattedValue) and (
            getattr(last.value, "id", "").isupper()
        )
        if texts and not is_constant and str(texts[-1]).rstrip()[-1] not in ".?":
            unfinished.append(place)
    assert unfinished == []
