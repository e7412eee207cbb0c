"""Run the command line, in this process or in one of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

import pytest

import audmodel
from audmodel.cli import main


PARAMS = {"model": "cnn10", "sampling_rate": 16000}
# What is said of the model for programs
MODEL = {
    "name": "onnx",
    "subgroup": "emotion.cnn",
    "version": "1.0.0",
    "parameters": PARAMS,
    "author": "sphinx",
    "date": "2026-01-01",
    "aliases": ["small"],
    "repository": "models",
}


@dataclass(frozen=True)
class Outcome:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """What it said for programs."""
        return json.loads(self.out)


Call = Callable[..., Outcome]


@pytest.fixture
def place(home: Path, tmp_path: Path) -> audmodel.Repository:
    """The only repository that the configuration file of the user names."""
    host = tmp_path / "host"
    (host / "models").mkdir(parents=True)
    configure(
        home,
        f"""
        cache_root: {tmp_path}/cache
        repositories:
        - name: models
          host: {host}
          backend: file-system
        """,
    )
    return audmodel.Repository("models", str(host), "file-system")


def configure(home: Path, text: str) -> Path:
    """Write the configuration file of the user."""
    path = home / ".config" / "audmodel.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    # It is read again, should this process have read another one
    settings = vars(audmodel.config)
    settings.update(dict.fromkeys(settings))
    return path


@pytest.fixture
def uid(place: audmodel.Repository, model_folder: Path) -> str:
    """A model with an alias."""
    return audmodel.publish(
        str(model_folder),
        "onnx",
        PARAMS,
        "1.0.0",
        alias="small",
        author="sphinx",
        date="2026-01-01",
        meta={"uar": 0.7, "data": {"emodb": "1.0.0"}},
        repository=place,
        subgroup="emotion.cnn",
    )


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Run a command in this process."""

    def call(*args: str | Path) -> Outcome:
        capfd.readouterr()
        code = main([str(arg) for arg in args])
        return Outcome(code, *capfd.readouterr())

    return call


def command(*args: str | Path) -> list[str]:
    """Command line that a shell runs."""
    return [sys.executable, "-m", "audmodel", *map(str, args)]


@pytest.fixture
def run(tmp_path: Path) -> Call:
    """Run a command in a process of its own."""

    def run(*args: str | Path, **options: Any) -> Outcome:
        options.setdefault("stdin", subprocess.DEVNULL)
        result = subprocess.run(
            command(*args),
            capture_output=True,
            check=False,
            cwd=tmp_path,
            **options,
        )
        return Outcome(
            result.returncode,
            result.stdout.decode(errors="surrogateescape"),
            result.stderr.decode(),
        )

    return run


def environment(**variables: str) -> dict[str, str]:
    """Variables of this process, and more."""
    return {**os.environ, **variables}
