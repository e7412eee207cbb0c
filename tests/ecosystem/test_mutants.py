"""The code is changed in one place after the other, and tests have to notice."""

from __future__ import annotations

import ast
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.mutants.__main__ import equivalent
from tests.mutants.mutations import mutations
from tests.mutants.targets import modules


CODE = '''\
"""Text."""
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
logger = logging.getLogger("audmodel")
LIMIT = 3

def first(values: list[int | None], *, lock: object = None) -> int | None:
    """Text of 1."""
    assert values is not None
    logger.info("%s", values or 1)
    with lock:
        for value in values:
            if value and value > 1:
                return value
    if not values:
        raise ValueError(f"There are {len(values) + 1}, and not 2.")
    try:
        values.sort(reverse=True)
    except (OSError, TypeError):
        return max(values)
'''


def changes(code: str) -> list[str]:
    found = mutations("a.py", code.encode())
    return [mutation.name.removeprefix("a.py ") for mutation in found]


def test_changes_of_a_function() -> None:
    assert changes(CODE) == [
        "first: lock => __import__('contextlib').nullcontext()",
        "first: value and value > 1 => (not (value and value > 1))",
        "first: value and value > 1 => (value or value > 1)",
        "first: value and value > 1 => (value > 1)",
        "first: value and value > 1 => (value)",
        "first: value > 1 => (value >= 1)",
        "first: 1 => 2",
        "first: value => None",
        "first: not values => (values)",
        'first: raise ValueError(f"There are {len(values) + 1}, and not 2.") => pass',
        "first: values.sort(reverse=True) => pass",
        "first: values.sort(reverse=True) => (values.sort())",
        "first: True => False",
        "first: (OSError, TypeError) => ((TypeError,))",
        "first: (OSError, TypeError) => ((OSError,))",
        "first: max => min",
        "first: max(values) => None",
    ]


@pytest.mark.parametrize("path", modules())
def test_each_change_of_a_module_is_another_program(path: str) -> None:
    source = (ROOT / path).read_bytes()
    found = mutations(path, source)
    assert len({mutation.name for mutation in found}) == len(found) > 10
    program = ast.dump(ast.parse(source))
    for mutation in found[:: 1 + len(found) // 20]:
        assert ast.dump(ast.parse(mutation.apply(source))) != program


def test_tests_of_modules_exist() -> None:
    for tests in modules().values():
        assert [test for test in tests if not (ROOT / test).exists()] == []


def test_equivalent_changes_are_explained_and_exist() -> None:
    found = {
        mutation.name
        for path in modules()
        for mutation in mutations(path, (ROOT / path).read_bytes())
    }
    entries = equivalent()
    assert [name for name in entries if name not in found] == []
    assert all(entries.values())


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one module and one test that knows it."""
    root = tmp_path / "project"
    files = {
        "audmodel/__init__.py": "",
        "audmodel/core/cache/sizes.py": (
            "def larger(a, b):\n    return a if a > b else b\n\n\n"
            "def hang():\n    while True:\n        break\n"
        ),
        "tests/test_sizes.py": (
            "from audmodel.core.cache import sizes\n\n\n"
            "def test_larger():\n    assert sizes.larger(1, 2) == 2\n\n\n"
            "def test_hang():\n    sizes.hang()\n"
        ),
        "tests/mutants/targets.py": (
            "def modules():\n"
            "    return {'audmodel/core/cache/sizes.py': ['tests/test_sizes.py']}\n\n\n"
            "def others(path, first):\n"
            "    return []\n"
        ),
        "tests/mutants/equivalent.txt": (
            "audmodel/core/cache/sizes.py larger: a > b => (a >= b)\n"
            "    Those that are equal are the same.\n"
        ),
    }
    shutil.copytree(ROOT / "tests" / "mutants", root / "tests" / "mutants")
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    subprocess.run(["git", "init", "--quiet", root], check=True)
    return root


@pytest.mark.thorough
def test_changes_are_tried_on_a_copy(project: Path) -> None:
    def attempt(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tests.mutants", "9", "1", *options],
            cwd=project,
            text=True,
            capture_output=True,
            check=False,
        )

    module = project / "audmodel" / "core" / "cache" / "sizes.py"
    content = module.read_bytes()
    result = attempt()
    assert result.stderr == ""
    assert sorted(line.split(":")[0] for line in result.stdout.splitlines()) == [
        "1 killed, 1 equivalent, 1 hung",
        "hung",
        "killed",
        "survived",
    ]
    assert result.returncode == 0
    assert module.read_bytes() == content

    # What is known is not tried again
    results = project / ".mutants" / "results.jsonl"
    lines = results.read_text()
    result = attempt()
    assert result.stdout == "1 killed, 1 equivalent, 1 hung\n"
    assert results.read_text() == lines

    (project / "tests" / "mutants" / "equivalent.txt").write_text("")
    result = attempt("--again")
    assert "survived:    2 audmodel/core/cache/sizes.py larger: a > b" in result.stdout
    assert result.returncode == 1
