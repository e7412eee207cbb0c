"""What of a folder is published, and what is refused."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
import socket
import subprocess
import sys
import unicodedata

import hypothesis
from hypothesis import strategies as st
import pytest

import audmodel
from audmodel.core.archive import format
from audmodel.core.archive.names import find_collisions
from audmodel.core.cache.tree import Folder
from audmodel.core.operations import folder
from audmodel.errors import InvalidFolderError
from tests.archive.hostile import ODD_NAMES
from tests.archive.tools import make_folder
from tests.archive.tools import publish
from tests.archive.tools import read_folder
from tests.archive.tools import run_python
from tests.archive.tools import store
from tests.archive.tools import write_old
from tests.users import let_in


def names(root: Path) -> list[str]:
    return [file.name for file in folder.scan(str(root)).files]


def test_files_are_sorted_by_name(tmp_path: Path) -> None:
    expected = ["B", "a", "a b", "a-b", "a/b", "ab", "é"]
    make_folder(tmp_path, {name.replace("a/", "sub/"): b"" for name in expected})
    assert names(tmp_path) == sorted(name.replace("a/", "sub/") for name in expected)


def test_hidden_files_are_published_and_empty_folders_are_not(tmp_path: Path) -> None:
    make_folder(tmp_path, {".hidden": b"", ".git/config": b"", "a/.b": b""})
    (tmp_path / "empty/inside").mkdir(parents=True)
    assert names(tmp_path) == [".git/config", ".hidden", "a/.b"]


def test_link_to_a_file_stands_for_its_content(
    tmp_path: Path, repository: audmodel.Repository
) -> None:
    root = make_folder(tmp_path / "model", {"file": b"content"})
    (tmp_path / "outside").write_bytes(b"outside")
    (root / "link").symlink_to("file")
    (root / "far").symlink_to(tmp_path / "outside")
    os.link(root / "file", root / "hard")
    loaded = audmodel.load(publish(repository, root))
    assert read_folder(loaded) == {
        "file": b"content",
        "link": b"content",
        "far": b"outside",
        "hard": b"content",
    }
    assert not [path for path in Path(loaded).rglob("*") if path.is_symlink()]


def test_path_is_expanded(tmp_path: Path, home: Path) -> None:
    make_folder(home / "model", {"a": b""})
    [file] = folder.scan("~/model").files
    assert file.path == str(home / "model/a")


@pytest.mark.sample(8)
@pytest.mark.parametrize("label", ODD_NAMES)
def test_odd_names_are_published(
    label: str, tmp_path: Path, repository: audmodel.Repository
) -> None:
    root = make_folder(tmp_path / "model", {ODD_NAMES[label]: b"odd"})
    loaded = audmodel.load(publish(repository, root), num_workers=2)
    assert read_folder(loaded) == {ODD_NAMES[label]: b"odd"}


# Refusals ------------------------------------------------------------------


def test_there_has_to_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        folder.scan(str(tmp_path / "missing"))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        folder.scan(str(tmp_path / "file"))


def test_there_have_to_be_files(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    with pytest.raises(InvalidFolderError, match="no files"):
        folder.scan(str(tmp_path))


@pytest.mark.parametrize(
    ("target", "what"),
    [
        (".", "link to a folder"),
        ("sub", "link to a folder"),
        ("/", "link to a folder"),
        ("missing", "broken link"),
        ("bad", "broken link"),
        ("/dev/null", "not a regular file"),
    ],
)
def test_link_to_something_else_is_refused(
    target: str, what: str, tmp_path: Path
) -> None:
    make_folder(tmp_path, {"sub/file": b""})
    (tmp_path / "bad").symlink_to(target)
    with pytest.raises(InvalidFolderError, match=f"bad' is.* {what}"):
        folder.scan(str(tmp_path))


def test_special_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InvalidFolderError, match="fifo' is not a regular file"):
        folder.scan(str(tmp_path))
    os.unlink(tmp_path / "fifo")
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket")
            with pytest.raises(InvalidFolderError, match="not a regular file"):
                folder.scan(str(tmp_path))
    finally:
        os.chdir(here)


@pytest.mark.parametrize(
    "name",
    [
        b"back\\slash",
        b"new\nline",
        b"tab\t",
        b"\x7f",
        b"not utf-8 \xff",
        "right to left \u202e".encode(),
        b"folder\n/file",
    ],
)
def test_names_that_would_be_refused_are_not_published(
    name: bytes, tmp_path: Path
) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb"):
        pass
    with pytest.raises(InvalidFolderError, match=r"cannot be published.*Rename"):
        folder.scan(str(tmp_path))


def test_folders_may_not_be_too_deep(tmp_path: Path) -> None:
    path = tmp_path
    here = os.open(".", os.O_RDONLY)
    try:
        for _ in range(600):
            path.mkdir(exist_ok=True)
            os.chdir(path)
            path = Path("d")
        Path("file").write_bytes(b"")
    finally:
        os.chdir(here)
        os.close(here)
    with pytest.raises(InvalidFolderError, match="cannot be published"):
        folder.scan(str(tmp_path))


def test_too_many_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path, {f"{n}": b"" for n in range(4)})
    monkeypatch.setattr(format, "MAX_MEMBERS", 3)
    with pytest.raises(InvalidFolderError, match="4 files, allowed are 3"):
        folder.scan(str(tmp_path))


def test_folder_that_is_too_large_is_refused(tmp_path: Path) -> None:
    size = 1024**4
    for name in ("weights", "more"):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, size // 2)
    assert len(folder.scan(str(tmp_path)).files) == 2
    os.truncate(tmp_path / "weights", size // 2 + 1)
    match = rf"have {size + 1} bytes together, allowed are {size}\. Publish them as"
    with pytest.raises(InvalidFolderError, match=match):
        folder.scan(str(tmp_path))


def test_too_many_folders_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path, {"a/b/c": b"", "a/d/e/f": b"", "a/b/x": b""})
    monkeypatch.setattr(format, "MAX_MEMBERS", 4)
    assert len(names(tmp_path)) == 3
    monkeypatch.setattr(format, "MAX_MEMBERS", 3)
    with pytest.raises(InvalidFolderError, match="4 folders, allowed are 3"):
        folder.scan(str(tmp_path))


def test_folder_or_file_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path, {"a": b""})
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(InvalidFolderError, match="a' cannot be read"):
        folder.scan(str(tmp_path))

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(InvalidFolderError, match="cannot be read: Permission denied"):
        folder.scan(str(tmp_path))


def test_broken_disk_is_not_a_changed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [file] = folder.scan(str(make_folder(tmp_path, {"a": b""}))).files

    def refuse(*arguments: object) -> int:
        raise OSError(5, "Input/output error")

    for name, call in (("os.open", file.open), ("os.stat", file.check_unchanged)):
        # Whoever removes the folder needs them as well
        with monkeypatch.context() as patch:
            patch.setattr(name, refuse)
            with pytest.raises(OSError, match="Input/output error"):
                call()


UNREADABLE = """
import os, sys
from audmodel.core.operations import folder
from audmodel.errors import InvalidFolderError
if os.geteuid() == 0:
    from tests.users import NOBODY, become
    become(NOBODY)
try:
    folder.scan(sys.argv[1])
except InvalidFolderError as error:
    print(error)
"""


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_cannot_be_read_is_refused(what: str, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "model", {"sub/file": b"", "other": b""})
    let_in(tmp_path)
    bad = root / ("sub/file" if what == "file" else "sub")
    bad.chmod(0)
    try:
        message = run_python(UNREADABLE, root)
    finally:
        bad.chmod(0o755)
    assert "cannot be read" in message
    assert str(bad) in message


def test_scan_is_imported_without_backends() -> None:
    module = "audmodel.core.operations.folder"
    code = f"import sys, {module}; print('audbackend' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


# Names that are one on other file systems --------------------------------------

COLLISIONS = [
    ("a", "A"),
    ("readme.txt", "README.TXT"),
    ("sub/x", "Sub/y"),
    ("sub/x", "SUB"),
    ("stra\xdfe", "STRASSE"),
    ("\xe9", "e\u0301"),
    ("\xc9/x", "e\u0301/y"),
    ("\u212b", "\xe5"),
]


@pytest.mark.parametrize(("first", "second"), COLLISIONS)
def test_names_that_collide_elsewhere_are_not_published(
    tmp_path: Path, repository: audmodel.Repository, first: str, second: str
) -> None:
    root = make_folder(tmp_path / "model", {first: b"1", second: b"2"})
    with pytest.raises(audmodel.errors.InvalidFolderError, match="collide on") as e:
        audmodel.publish(str(root), "torch", {}, "1.0.0")
    assert str(root) in str(e.value)


parts = st.sampled_from(["a", "A", "b", "\xe9", "E\u0301", "\xdf", "Ss", "\u0338"])


@hypothesis.given(
    found=st.lists(st.lists(parts, min_size=1, max_size=4).map("/".join), max_size=8)
)
def test_all_names_that_collide_are_found(found: list[str]) -> None:
    """Those of folders as well, each with the first one that is like it."""
    paths = []
    for path in found:
        ancestors = list(itertools.accumulate(path.split("/"), "{}/{}".format))
        paths += [path for path in reversed(ancestors) if path not in paths]
    firsts: dict[str, str] = {}
    expected = []
    for path in paths:
        folded = unicodedata.normalize("NFC", path.casefold()).casefold()
        first = firsts.setdefault(unicodedata.normalize("NFC", folded), path)
        if first != path:
            expected.append((first, path))
    assert list(find_collisions(found)) == expected


@pytest.mark.parametrize(("first", "second"), COLLISIONS)
def test_names_that_collide_are_loaded_where_they_do_not(
    tmp_path: Path,
    repository: audmodel.Repository,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
    second: str,
) -> None:
    content = {first: b"1", second: b"2"}
    uid = store(repository, tmp_path / "model", write_old(content))
    root = audmodel.load(uid, cache_root=str(tmp_path / "here"))
    assert read_folder(root) == content
    # As on a disk that does not tell them apart
    monkeypatch.setattr(Folder, "status", lambda self, name="": os.stat(self.path))
    with pytest.raises(audmodel.errors.ArchiveError, match="collide on") as info:
        audmodel.load(uid, cache_root=str(tmp_path / "there"))
    assert uid in str(info.value)
