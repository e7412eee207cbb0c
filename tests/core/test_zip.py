"""The package in a ZIP file, as Spark and others send it to their workers."""

from __future__ import annotations

import os
from pathlib import Path
import subprocess
import sys
import zipfile

import pytest

import audmodel


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "audmodel.zip"
    package = Path(audmodel.__file__).parent
    with zipfile.ZipFile(path, "w") as file:
        for source in package.rglob("*"):
            if "__pycache__" not in source.parts:
                file.write(source, source.relative_to(package.parent))
    return path


def run(archive: Path, folder: Path, *args: str) -> str:
    result = subprocess.run(
        [sys.executable, *args],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(archive)},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


CODE = """
import sys, audmodel
assert audmodel.__file__.startswith(sys.argv[1]), audmodel.__file__
audmodel.config.REPOSITORIES = audmodel.config.REPOSITORIES[:1]
uid = audmodel.publish(sys.argv[2], "name", {"a": 1}, "1.0.0", num_workers=2)
with audmodel.open(uid, "model.yaml") as file:
    print(file.readline())
print(audmodel.load(uid, num_workers=2))
print(list(audmodel.parallel.prefetch(abs, [-1], num_workers=2)))
"""


def test_package_works_from_a_zip_file(
    archive: Path, model_folder: Path, tmp_path: Path, home: Path
) -> None:
    out = run(archive, tmp_path, "-c", CODE, str(archive), str(model_folder))
    uid = audmodel.uid("name", {"a": 1}, "1.0.0")
    short, version = uid.split("-")
    assert out.splitlines() == [
        r"b'input: melspec\n'",
        str(home / "audmodel" / short / version),
        "[1]",
    ]
    assert run(archive, tmp_path, "-m", "audmodel", "versions", uid) == "1.0.0\n"
    shown = run(archive, tmp_path, "-m", "audmodel", "config")
    assert "audmodel-public" in shown
