"""Every example that a reader may copy is run."""

from __future__ import annotations

import datetime
from doctest import ELLIPSIS
from doctest import IGNORE_EXCEPTION_DETAIL
from doctest import NORMALIZE_WHITESPACE
from doctest import OutputChecker
import itertools
import os
from pathlib import Path
import re
import subprocess
import sys

import pytest
import sybil
from sybil.parsers.rest import CodeBlockParser
from sybil.parsers.rest import DocTestParser
from sybil.parsers.rest import PythonCodeBlockParser
from sybil.parsers.rest import SkipParser

import audmodel
from tests.conftest import ROOT


class ConsoleParser(CodeBlockParser):
    """Runs what is typed into a shell, if ``audmodel`` is among it."""

    language = "console"

    def __init__(self) -> None:
        super().__init__()
        self._code = 0

    def evaluate(self, example: sybil.Example) -> str | None:
        if not re.search(r"\baudmodel ", example.parsed):
            return None
        for step in re.split(r"^\$ ", example.parsed, flags=re.MULTILINE)[1:]:
            lines = step.splitlines(keepends=True)
            more = itertools.takewhile(lambda line: line.startswith("> "), lines[1:])
            typed = "".join([lines[0], *more])
            expected = step.removeprefix(typed)
            shown = self._run(re.sub("^> ", "", typed, flags=re.MULTILINE))
            flags = ELLIPSIS | NORMALIZE_WHITESPACE
            if not OutputChecker().check_output(expected, shown, flags):
                return f"$ {typed}Expected:\n{expected}\nGot:\n{shown}"
        return None

    def _run(self, script: str) -> str:
        """What a command shows, which may look at the exit code of the one before."""
        result = subprocess.run(
            ["bash", "-c", f"{AUDMODEL}(exit {self._code})\n{script}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self._code = result.returncode
        return result.stdout


# It is there without having been installed
AUDMODEL = f'audmodel() {{ "{sys.executable}" -m audmodel "$@"; }}\n'
EXAMPLES = sybil.Sybil(
    parsers=[
        ConsoleParser(),
        DocTestParser(ELLIPSIS | IGNORE_EXCEPTION_DETAIL | NORMALIZE_WHITESPACE),
        PythonCodeBlockParser(),
        SkipParser(),
    ],
    pattern="*",
    path=str(ROOT),
)


def with_examples(*paths: Path) -> list[str]:
    """Files that show something to be run."""
    return [
        str(path.relative_to(ROOT))
        for path in paths
        if any(
            mark in path.read_text("utf-8")
            for mark in (">>> ", ":: python\n", "$ audmodel ")
        )
    ]


def run_examples(name: str, **variables: object) -> None:
    """Run a file from top to bottom."""
    document = EXAMPLES.parse(ROOT / name)
    document.namespace.update(variables)
    for example in document.examples():
        example.evaluate()


@pytest.fixture
def folder(
    tmp_path: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The folder in which readers are, with a model."""
    path = tmp_path / "here"
    path.mkdir()
    model_folder.rename(path / "my-model")
    monkeypatch.chdir(path)
    return path


@pytest.mark.parametrize(
    "name",
    with_examples(ROOT / "README.rst", *sorted((ROOT / "docs").rglob("*.rst"))),
)
def test_pages(name: str, folder: Path) -> None:
    """A page needs nothing but the folder ``my-model``."""
    run_examples(name)


@pytest.mark.parametrize(
    "name",
    with_examples(*sorted((ROOT / "audmodel").rglob("*.py"))),
)
def test_docstrings(
    name: str,
    folder: Path,
    repository: audmodel.Repository,
) -> None:
    """Docstrings may use ``repository``, and two versions of a model in it."""
    for version in ("1.0.0", "2.0.0"):
        audmodel.publish(
            "my-model",
            "onnx",
            {
                "model": "cnn10",
                "data": ["emodb", "msppodcast"],
                "feature": "melspec",
                "sampling_rate": 16000,
            },
            version,
            alias="emotion-small" if version == "1.0.0" else None,
            author="sphinx",
            date=datetime.date(2026, 1, 1),
            meta={"model": {"cnn10": {"learning-rate": 0.01}}},
            repository=repository,
            subgroup="emotion.cnn",
        )
    run_examples(name, audmodel=audmodel, os=os, repository=repository)


# The demonstration ---------------------------------------------------------


def run_quickstart(home: Path, *args: str) -> str:
    result = subprocess.run(
        [sys.executable, ROOT / "examples" / "quickstart.py", *args],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def test_quickstart_shows_what_happens(home: Path) -> None:
    output = run_quickstart(home, "--size", "2")
    for text in ("1.0.0", "2.0.0", "emotion-production", "2 MB"):
        assert text in output


def test_quickstart_leaves_nothing(home: Path) -> None:
    first = run_quickstart(home, "--size", "1")
    second = run_quickstart(home, "--size", "1")
    assert len(first.splitlines()) == len(second.splitlines())
    assert list(home.iterdir()) == []


# Links ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "leads_somewhere"),
    [
        ("#here", True),
        ("other.html", True),
        ("other.html#there", True),
        ("folder/", True),
        ("https://example.com/nowhere.html", True),
        ("#nowhere", False),
        ("nowhere.html", False),
        ("other.html#nowhere", False),
        ("../other.html", False),
    ],
)
def test_dead_links_are_found(tmp_path: Path, link: str, leads_somewhere: bool) -> None:
    root = tmp_path / "pages"
    (root / "folder").mkdir(parents=True)
    (root / "index.html").write_text(f'<p id="here"><a href="{link}">link</a></p>')
    (root / "other.html").write_text('<p id="there">text</p>')
    (root / "folder" / "index.html").write_text("<p>text</p>")
    result = subprocess.run(
        [sys.executable, ROOT / "docs" / "check_links.py", root],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode == 0) == leads_somewhere
    assert (link in result.stderr) == (not leads_somewhere)
