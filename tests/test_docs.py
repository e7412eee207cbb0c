"""Every example that a reader may copy is run."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
import csv
import datetime
from doctest import ELLIPSIS
from doctest import IGNORE_EXCEPTION_DETAIL
from doctest import NORMALIZE_WHITESPACE
from doctest import OutputChecker
import inspect
import itertools
import logging
import os
from pathlib import Path
import re
import subprocess
import sys
import types

from _pytest.mark import ParameterSet
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization import NoEncryption
from cryptography.hazmat.primitives.serialization import PrivateFormat
import pytest
import sybil
from sybil.parsers.rest import CodeBlockParser
from sybil.parsers.rest import DocTestParser
from sybil.parsers.rest import PythonCodeBlockParser
from sybil.parsers.rest import SkipParser

import audmodel
from tests.conftest import RELEASE
from tests.conftest import ROOT
from tests.test_public import MODULES
from tests.test_public import public_names


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


# They are installed for all tests, but not for the quick ones
PACKAGES = re.compile(
    r"^ *(>>> )?(import|from) "
    "(boto3|distributed|huggingface_hub|numpy|onnx|onnxruntime|PIL|safetensors|"
    "soundfile|torch)",
    flags=re.MULTILINE,
)


# Folders of pages that need a storage, see test_guide_pages.py
GUIDE = ("operate", "recipes")


def with_examples(*paths: Path) -> list[ParameterSet]:
    """Files that show something to be run."""
    found = []
    for path in paths:
        text = path.read_text("utf-8")
        if any(mark in text for mark in (">>> ", ":: python\n", "$ audmodel ")):
            marks = [pytest.mark.thorough] if PACKAGES.search(text) else []
            name = str(path.relative_to(ROOT))
            found.append(pytest.param(name, marks=marks, id=name))
    return found


def run_examples(name: str, **variables: object) -> None:
    """Run a file from top to bottom."""
    document = EXAMPLES.parse(ROOT / name)
    document.namespace.update(variables)
    for example in document.examples():
        example.evaluate()


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Examples configure logging, which other tests are not to notice."""
    loggers = [logging.getLogger(), logging.getLogger("audmodel")]
    before = [(logger.level, logger.handlers[:]) for logger in loggers]
    yield
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers


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
    with_examples(
        ROOT / "README.rst",
        *(
            path
            for path in sorted((ROOT / "docs").rglob("*.rst"))
            if path.parent.name not in GUIDE
        ),
    ),
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
    """Docstrings may use ``repository``, two versions of a model in it, and a key."""
    key = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
    )
    Path("id_ed25519").write_bytes(key)
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


# Reference -----------------------------------------------------------------


def functions() -> list[str]:
    return [
        name
        for name in public_names(audmodel)
        if inspect.isfunction(getattr(audmodel, name))
    ]


def sections(name: str) -> dict[str, str]:
    """Text of each section of the docstring of a function."""
    text = inspect.getdoc(getattr(audmodel, name)) or ""
    parts = re.split(r"^(Args|Returns|Raises|Examples):\n", text, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


@pytest.mark.parametrize("name", functions())
def test_reference_names_every_argument(name: str) -> None:
    arguments = inspect.signature(getattr(audmodel, name)).parameters
    described = re.findall(
        r"^    (\w+): ", sections(name).get("Args", ""), re.MULTILINE
    )
    assert described == list(arguments)


@pytest.mark.parametrize("name", functions())
def test_reference_names_answer_and_example(name: str) -> None:
    found = sections(name)
    returns = inspect.signature(getattr(audmodel, name)).return_annotation
    assert ("Returns" in found) == (returns != "None")
    assert f"{name}(" in found["Examples"]


@pytest.mark.parametrize("name", functions())
def test_reference_names_existing_errors_in_order(name: str) -> None:
    named = re.findall(
        r"^    ([\w.]+): ", sections(name).get("Raises", ""), re.MULTILINE
    )
    own = [error for error in named if hasattr(audmodel.errors, error)]
    others = [error for error in named if error not in own]
    assert named == [*others, *sorted(own)]
    for error in others:
        assert hasattr(builtins, error)


@pytest.mark.parametrize("module", MODULES)
def test_reference_has_every_public_name(module: types.ModuleType) -> None:
    pages = "".join(
        path.read_text("utf-8") for path in (ROOT / "docs" / "api").glob("*.rst")
    )
    for name in public_names(module):
        full = f"{module.__name__}.{name}"
        assert re.search(rf":: {re.escape(full)}$", pages, re.MULTILINE), full


def errors() -> list[str]:
    return public_names(audmodel.errors)


@pytest.mark.parametrize("name", errors())
def test_troubleshooting_names_every_error(name: str) -> None:
    page = (ROOT / "docs" / "troubleshooting.rst").read_text("utf-8")
    assert re.search(rf"\b{name}\b", page)


# Figures -------------------------------------------------------------------


def seconds(name: str, *, released: bool, **labels: str) -> float:
    """What the first committed row with these labels took on average."""
    path = ROOT / "benchmarks" / "results" / name / "results.csv"
    with path.open(newline="") as file:
        row = next(
            row
            for row in csv.DictReader(file)
            # Figures stay what they are when the version changes
            if (row["published by"] == RELEASE) == released
            and labels.items() <= row.items()
        )
    hours, minutes, rest = row["elapsed(avg)"].split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


@pytest.mark.parametrize(
    ("what", "name", "num_workers"),
    [
        ("Load 512 MB with 2 workers", "load", "2"),
        ("Load 512 MB with 10 workers", "load-limited", "10"),
        ("Publish 512 MB with 2 workers", "publish", "2"),
    ],
)
def test_readme_has_figures_that_were_measured(
    what: str,
    name: str,
    num_workers: str,
) -> None:
    measured = (
        seconds(name, released=True),
        seconds(name, released=False, num_workers=num_workers),
    )
    readme = (ROOT / "README.rst").read_text("utf-8")
    row = re.search(rf"^{what}.*?([\d.]+) s +([\d.]+) s$", readme, re.MULTILINE)
    assert row is not None, what
    assert row.groups() == tuple(f"{value:.1f}" for value in measured)


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
