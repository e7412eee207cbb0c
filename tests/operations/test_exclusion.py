"""Which files patterns exclude, compared with what Git does."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import random
import shutil
import subprocess
from typing import Any

import pytest

import audmodel
from audmodel.core.operations.folder import scan
from audmodel.errors import InvalidFolderError
from audmodel.errors import InvalidInputError
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.parts import skip_without


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


# What is wrong ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "is no pattern, but empty or a comment"),
        ("  ", "is no pattern, but empty or a comment"),
        ("#a", r"Write '\\#' for a name"),
        ("/", "names no file"),
        ("!", "names no file"),
        ("!/", "names no file"),
        ("a[", "has a bracket that is not closed"),
        ("[]", "has a bracket that is not closed"),
        ("[a-", "has a bracket that is not closed"),
        ("[a\\", "has a bracket that is not closed"),
        ("[[:alpha:]]", "has a class like"),
        ("a\\", "ends with a backslash"),
    ],
)
def test_pattern_that_is_not_valid(
    repository: audmodel.Repository, model_folder: Path, pattern: str, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        publish(model_folder, exclude=["fine", pattern])
    assert list(Path(repository.host, "models").iterdir()) == []


@pytest.mark.parametrize("exclude", [1, b"a", {"a": 1}, [1], ["a", None]])
def test_patterns_of_another_type(model_folder: Path, exclude: object) -> None:
    with pytest.raises(TypeError, match="'exclude'"):
        publish(model_folder, exclude=exclude)


def folder_in_place(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (folder_in_place, "Is a directory|not a regular file"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.write_bytes(b"caf\xe9"), "not in UTF-8"),
        (lambda path: path.write_bytes(b"x\n" * (1 << 20)), "more than 1048576 bytes"),
        (lambda path: path.write_text("a\n\n[b\n"), r"'\[b' in line 3 of '.*ignore'"),
        (lambda path: path.symlink_to(path), "cannot be read"),
    ],
    ids=["folder", "pipe", "encoding", "size", "pattern", "loop"],
)
def test_ignore_file_that_cannot_be_used(
    repository: audmodel.Repository,
    model_folder: Path,
    spoil: Callable[[Path], object],
    message: str,
) -> None:
    spoil(model_folder / ".audmodelignore")
    with pytest.raises(InvalidFolderError, match=message):
        publish(model_folder)
    assert list(Path(repository.host, "models").iterdir()) == []


def test_nothing_is_left(repository: audmodel.Repository, model_folder: Path) -> None:
    with pytest.raises(InvalidFolderError, match="no files that are not excluded"):
        publish(model_folder, exclude="*")


# What is excluded ------------------------------------------------------------

TREE = (
    *("a", "b.txt", "a.b/c", "log/a", "log/b.txt", "log/deep/a", "log/deep/log/x"),
    *("x/log", "#a", "!a", " a", "a ", "[a]", "*", "ä.txt", "-", "]"),
)


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["*"], []),
        (["**"], []),
        (["*.txt"], ["log/a", "x/log"]),
        (["log"], ["b.txt"]),
        (["log/"], ["b.txt", "x/log"]),
        (["/log"], ["b.txt", "x/log"]),
        (["/*.txt"], ["log/b.txt", "log/a", "x/log"]),
        (["log/*"], ["b.txt", "x/log"]),
        (["log/*.txt"], ["b.txt", "log/a", "x/log"]),
        (["*/*.txt"], ["b.txt", "log/a", "x/log"]),
        (["**/b.txt", "x"], ["log/a"]),
        (["log/**"], ["b.txt", "x/log"]),
        (["?.txt"], ["log/a", "x/log"]),
        (["[!a].txt"], ["log/a", "x/log"]),
        (["*", "!b.txt"], ["b.txt"]),
        (["/*", "!/log"], ["log/a", "log/b.txt"]),
        # A folder that is excluded is not looked at
        (["log/", "x/", "!log/a"], ["b.txt"]),
        (["!b.txt", "b.txt"], ["log/a", "x/log"]),
    ],
)
def test_patterns(tmp_path: Path, patterns: list[str], left: list[str]) -> None:
    make(tmp_path, "b.txt", "log/a", "log/b.txt", "x/log")
    (tmp_path / "keep").touch()
    found = [file.name for file in scan(str(tmp_path), [*patterns, "!keep"]).files]
    assert sorted(found) == sorted([*left, "keep"])


def left_by_git(root: Path, lines: list[str]) -> set[str]:
    (root.parent / "lines").write_text("\n".join(lines))
    command = ["git", "-C", str(root), "ls-files", "--others", "-z"]
    output = subprocess.run(
        [*command, f"--exclude-from={root.parent / 'lines'}"],
        check=True,
        capture_output=True,
    ).stdout
    return set(output.decode().split("\0")[:-1])


PIECES = (
    *("a", "b", "log", "deep", ".txt", "x", "ä", "A", "#", "!", " ", "-", "]"),
    *("*", "?", "[ab]", "[!a]", "[^-b]", "[a-z]", "[]a]", "[z-a]", "[*]"),
    *("\\*", "\\a", "\\ ", "\\#", "\\!", "[\\]]", "[a\\-z]"),
)


def some_pattern(chance: random.Random) -> str:
    """Pattern in which asterisks that follow each other are a part of a path.

    Of others Git makes something else than it documents.

    """
    parts = [
        "**"
        if chance.random() < 0.2
        else "".join(chance.choices(PIECES, k=chance.randint(1, 3))).replace("**", "*")
        for _ in range(chance.randint(1, 3))
    ]
    around = chance.choices(["", "/", "!"], [6, 1, 1])[0]
    return around + "/".join(parts) + chance.choices(["", "/", " "], [6, 1, 1])[0]


@pytest.mark.thorough
def test_same_as_git(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        skip_without("git")
    root = make(tmp_path / "root", *TREE)
    subprocess.run(["git", "init", "-q", root], check=True)
    chance = random.Random(7)
    valid = 0
    for _ in range(400):
        lines = [some_pattern(chance) for _ in range(chance.randint(1, 4))]
        (root / ".audmodelignore").write_text("\n".join(lines))
        expected = left_by_git(root, lines) - {".audmodelignore"}
        found: set[str] = set()
        try:
            found = {file.name for file in scan(str(root), ["/.git"]).files}
        except InvalidFolderError as error:
            if "no files that" not in str(error):
                continue
        valid += 1
        assert found == expected, lines
    assert valid > 300


def test_ignore_file_and_argument(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    (model_folder / ".audmodelignore").write_bytes(
        b"\xef\xbb\xbf# what is not needed\r\n\r\n/log/\r\n*.txt  \r\n"
    )
    # Neither can be published
    (model_folder / "broken").symlink_to("nothing")
    (model_folder / "back\\slash").touch()
    uid = publish(model_folder, exclude=["broken", "back*", "!readme.txt"])
    assert set(files(audmodel.load(uid))) == {"model.onnx", "model.yaml", "readme.txt"}
    planned = audmodel.plan_publish(
        str(model_folder), "torch", {}, "1.0.0", exclude=["broken", "back*"]
    )
    assert planned.excluded == ("back\\slash", "broken", "log/", "readme.txt")
    assert planned.files == 2
    # The same files are left out if the archive is stored again
    [archive] = Path(repository.host).rglob("*.zip")
    data = archive.read_bytes()
    archive.unlink()
    publish(model_folder, exclude=["broken", "back*", "!readme.txt"], repair=True)
    assert archive.read_bytes() == data


def test_folder_that_is_excluded_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "model", ".git/objects/a", "sub/.git/b")
    listed: list[str] = []
    scandir = os.scandir

    def listing(path: str) -> Any:
        listed.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", listing)
    found = scan(str(tmp_path), [".git"])
    assert [file.name for file in found.files] == ["model"]
    assert found.excluded == [".git/", "sub/.git/"]
    assert not [path for path in listed if ".git" in path]
