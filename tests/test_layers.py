"""Each room imports what it may know, and nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
import functools
import graphlib
import re

import pytest

from tests.conftest import ROOT


# Rooms, and files that are no part of one, with what each may import besides itself:
# a whole room, or a single file of it. Rules are in docs/architecture.rst
KNOWS = {
    "__main__": "cli",
    "cli": """
        __init__ errors core/api core/process core/repository/config
        core/repository/suggestions core/similar core/uid core/units core/yaml
        """,
    "__init__": """
        core/api core/backend/conditions core/cache/results core/diagnosis
        core/operations core/progress core/repository errors parallel
        """,
    "fs": "__init__ core/api/arguments errors parallel",
    "errors": "core/backend/errors core/cache/errors core/errors",
    "core/api": """
        core/backend/errors core/cache core/errors core/operations core/process
        core/progress core/repository core/selection core/site core/uid
        core/yaml
        """,
    "core/operations": """
        core/archive core/backend core/cache core/damage core/diagnosis core/disk
        core/errors core/home core/process core/progress core/ranges core/repository
        core/selection core/signing core/site core/uid core/units core/yaml
        """,
    "core/site": "core/errors core/units",
    "core/repository": """
        core/backend core/diagnosis core/disk core/errors core/home core/process
        core/progress core/similar core/uid core/yaml parallel
        """,
    "core/cache": "core/diagnosis core/disk core/errors core/uid core/units",
    "core/archive": "core/damage core/errors core/ranges parallel",
    "core/backend/s3": """
        core/backend core/backend/http core/errors core/process core/ranges
        """,
    "core/backend/artifactory": """
        core/backend core/backend/http core/errors core/process core/ranges
        """,
    "core/backend/http": """
        core/backend core/damage core/errors core/process core/ranges
        """,
    "core/backend": "core/disk core/errors core/process core/ranges",
    "core/damage": "core/errors",
    "core/diagnosis": "core/errors",
    "core/home": "core/errors",
    "core/progress": "core/units parallel",
    "core/ranges": "",
    "core/selection": "core/errors",
    "core/signing": "core/errors",
    "core/similar": "",
    "core/units": "",
    "core/uid": "core/errors core/yaml",
    "core/yaml": "core/errors",
    "core/disk": "",
    # Forks are made ready before anything else is imported
    "core/__init__": "core/process/forks",
    "core/process": "core/errors parallel",
    "core/errors": "",
    "parallel": "",
}


def sources() -> dict[str, str]:
    """Text of each file of the package."""
    package = ROOT / "audmodel"
    return {
        path.relative_to(package).with_suffix("").as_posix(): path.read_text("utf-8")
        for path in package.rglob("*.py")
    }


@functools.cache
def imported_names(text: str) -> list[tuple[str, str]]:
    """Modules that are imported, at once or inside a function, and what of them."""
    names = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, ast.unparse(node)
            names += [(str(node.module), alias.name) for alias in node.names]
    return names


def imported(text: str, files: dict[str, str]) -> Iterator[str]:
    """Files of the package that a file imports."""
    for module, name in imported_names(text):
        file = file_of(f"{module}.{name}", files) or file_of(module, files)
        if file is not None:
            yield file


def file_of(name: str, files: dict[str, str]) -> str | None:
    """File of a module of the package."""
    package, *parts = name.rstrip(".").split(".")
    for path in ("/".join(parts), "/".join([*parts, "__init__"])):
        if package == "audmodel" and path in files:
            return path
    return None


def room_of(file: str) -> str:
    """Room of a file, or the file itself if it is in none."""
    folder, _, _ = file.rpartition("/")
    return file if folder in ("", "core") else folder


def violations(files: dict[str, str]) -> list[str]:
    """Imports that are not allowed, and files that have no rule."""
    found = []
    for file, text in sorted(files.items()):
        room = room_of(file)
        if room not in KNOWS:
            found.append(f"{file} is in no room")
            continue
        known = {room, *KNOWS[room].split()}
        found += [
            f"{file} imports {other}"
            for other in sorted(set(imported(text, files)))
            if known.isdisjoint((other, room_of(other)))
        ]
    return found


def test_rooms_import_what_they_may_know() -> None:
    assert violations(sources()) == []


def test_all_that_may_be_known_is_needed() -> None:
    files = sources()
    used: dict[str, set[str]] = {room: set() for room in KNOWS}
    for file, text in files.items():
        for other in imported(text, files):
            used[room_of(file)] |= {other, room_of(other)}
    unused = {
        room: sorted(set(known.split()) - used[room]) for room, known in KNOWS.items()
    }
    assert {room: names for room, names in unused.items() if names} == {}


def test_rooms_do_not_go_round() -> None:
    graph = {
        room: {name if name in KNOWS else room_of(name) for name in known.split()}
        for room, known in KNOWS.items()
    }
    graphlib.TopologicalSorter(graph).prepare()


class _RunTime(ast.NodeTransformer):
    """Leaves out what only type checkers import."""

    def visit_If(self, node: ast.If) -> ast.AST:
        return ast.Pass() if "TYPE_CHECKING" in ast.unparse(node.test) else node


def test_files_do_not_go_round() -> None:
    files = {
        file: ast.unparse(_RunTime().visit(ast.parse(text)))
        for file, text in sources().items()
    }
    graph = {file: set(imported(text, files)) - {file} for file, text in files.items()}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    ("file", "statement"),
    [
        ("core/uid", "from audmodel.core.operations import find"),
        ("core/errors", "from audmodel import errors"),
        ("core/disk", "import audmodel.core.cache.entry as entry"),
        ("core/new", ""),
        ("new/module", ""),
        ("cli/models", "from audmodel.core.backend.s3 import client"),
        ("cli/models", "from audmodel.core.repository.registry import Registry"),
        ("core/api/models", "from audmodel.core.archive.writer import ArchiveWriter"),
        ("core/api/models", "from audmodel.cli import output"),
        ("core/operations/loading", "from audmodel.core.api import models"),
        ("core/operations/loading", "from audmodel.core.backend import http"),
        ("core/repository/probe", "from audmodel.core.operations import loading"),
        ("core/repository/lookup", "from audmodel.core.cache.entry import CacheEntry"),
        ("core/repository/header", "from audmodel.core.archive import format"),
        ("core/cache/root", "from audmodel.core.repository.config import config"),
        ("core/cache/entry", "from audmodel.core.archive import format"),
        (
            "core/archive/reader",
            "from audmodel.core.backend import reader",
        ),
        ("core/backend/base", "from audmodel.core.cache.entry import CacheEntry"),
        ("core/backend/base", "from audmodel.core.backend.http import transfer"),
        ("core/backend/http/transfer", "from audmodel.core.backend.s3 import client"),
        ("core/backend/s3/client", "import audmodel.core.backend.artifactory.server"),
        ("core/process/workers", "from audmodel.core.backend import base"),
        ("core/yaml/document", "from audmodel.core import uid"),
        ("parallel/flow", "from audmodel.core import disk"),
    ],
)
@pytest.mark.parametrize("inside", ["module", "function"])
def test_violation_is_found(file: str, statement: str, inside: str) -> None:
    files = sources()
    before = violations(files)
    if inside == "function":
        statement = f"def function():\n    {statement or 'pass'}\n"
    files[file] = f"{files.get(file, '')}\n{statement}\n"
    (found,) = set(violations(files)) - set(before)
    assert found.startswith(f"{file} i")


def test_architecture_shows_all_rooms() -> None:
    page = (ROOT / "docs" / "architecture.rst").read_text("utf-8")
    table = page.partition(".. list-table:: Rooms")[2].partition("\n\n\n")[0]
    shown = re.findall(r"^    \* - ``(.+)``$", table, flags=re.MULTILINE)
    assert sorted(shown) == sorted(name for name in KNOWS if "__" not in name)


# Where text of users, or of records, becomes an ID, and where a folder is chosen
CALLERS = {
    "core/uid.parse": """
        cli/models core/api core/cache/alias_cache core/repository/alias_record
        """,
    "core/repository/config.cache_folder": "core/api",
}


def uses(text: str, function: str) -> bool:
    """Whether a file uses a function of a module, however it imports it."""
    module, _, name = f"audmodel/{function}".replace("/", ".").rpartition(".")
    package, _, last = module.rpartition(".")
    tree = ast.parse(text)
    known = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == package
        for alias in node.names
        if alias.name == last
    }
    return (module, name) in imported_names(text) or any(
        isinstance(node, ast.Attribute)
        and node.attr == name
        and ast.unparse(node.value) in {module, *known}
        for node in ast.walk(tree)
    )


def users(function: str, files: dict[str, str]) -> set[str]:
    """Files that use a function and need not."""
    allowed = set(CALLERS[function].split())
    return {
        file
        for file, text in files.items()
        if uses(text, function) and allowed.isdisjoint((file, room_of(file)))
    }


@pytest.mark.parametrize("function", CALLERS)
def test_arguments_become_objects_where_they_arrive(function: str) -> None:
    files = sources()
    assert users(function, files) == set()
    needed = [file for file, text in files.items() if uses(text, function)]
    assert set(CALLERS[function].split()) <= {*needed, *map(room_of, needed)}


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("core/uid.parse", "from audmodel.core import uid as ids\nids.parse('a')"),
        ("core/uid.parse", "from audmodel.core.uid import parse"),
        ("core/uid.parse", "import audmodel.core.uid\naudmodel.core.uid.parse('a')"),
        (
            "core/repository/config.cache_folder",
            "def f():\n from audmodel.core.repository.config import cache_folder",
        ),
    ],
)
def test_use_elsewhere_is_found(function: str, text: str) -> None:
    assert users(function, {"core/operations/find": text}) == {"core/operations/find"}
