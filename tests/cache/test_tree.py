"""Nothing but one module touches what is in a cache."""

from __future__ import annotations

import ast
from collections.abc import Callable
from collections.abc import Mapping
import os
from pathlib import Path
import shutil
import socket
import stat
import subprocess
import zlib

from blake3 import blake3
import pytest

import audmodel
from audmodel.core.archive.reader import Extractor
from audmodel.core.cache.marker import Marker
from audmodel.core.cache.staging import Expected
from audmodel.core.cache.staging import Staging
from audmodel.core.cache.tree import Folder
from tests.behaviour.backends import publish
from tests.conftest import ROOT


CORE = ROOT / "audmodel" / "core"
# What takes a path and opens, changes, removes, or looks at what is there
BY_PATH = {
    "builtins": {"open"},
    "glob": {"glob", "iglob"},
    "io": {"FileIO", "open", "open_code"},
    "os": {
        *("access", "chdir", "chflags", "chmod", "chown", "fwalk", "lchmod", "lchown"),
        *("link", "listdir", "listxattr", "lstat", "makedirs", "mkdir", "mkfifo"),
        *("mknod", "open", "readlink", "remove", "removedirs", "removexattr"),
        *("rename", "renames", "replace", "rmdir", "scandir", "setxattr", "stat"),
        *("statvfs", "symlink", "truncate", "unlink", "utime", "walk"),
    },
    "os.path": {
        *("exists", "getmtime", "getsize", "isdir", "isfile", "islink", "lexists"),
        *("realpath", "samefile"),
    },
    "pathlib": {"Path"},
    "shutil": {
        *("chown", "copy", "copy2", "copyfile", "copymode", "copystat", "copytree"),
        *("disk_usage", "move", "rmtree"),
    },
    "tempfile": {"NamedTemporaryFile", "TemporaryDirectory", "mkdtemp", "mkstemp"},
}
# Modules that use none of a cache but by its one module
ROOMS = [
    *(CORE / "cache").rglob("*.py"),
    *(CORE / "archive").rglob("*.py"),
    *(CORE / "api").rglob("*.py"),
    *(CORE / "operations").rglob("*.py"),
    CORE / "repository" / "lookup.py",
]
# What uses paths of something else: the one module, files that are published,
# folders that a user gave for something else
ALLOWED = {
    "archive/input.py": {"os.open", "os.stat"},
    # The root of the cache, and what is above it
    "cache/checkup.py": {"os.access", "os.path.isdir", "os.path.lexists"},
    "cache/descriptors.py": None,
    "cache/location.py": {"os.open"},
    "cache/tree.py": None,
    "operations/folder.py": {
        "os.access",
        "os.path.exists",
        "os.path.isdir",
        "os.scandir",
    },
    "operations/placing.py": {
        "os.makedirs",
        "os.open",
        "os.path.isdir",
        "os.path.lexists",
        "os.path.realpath",
    },
    "operations/publication.py": {"os.makedirs"},
    "operations/publishing.py": {"os.makedirs"},
    "operations/site.py": {"os.makedirs"},
}


def uses(code: str) -> set[str]:
    """Functions in a module that take a path, by their full names."""
    tree = ast.parse(code)
    names: dict[str, str] = {"open": "builtins.open"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.FunctionDef) and node in tree.body:
            names[node.name] = f"audmodel.{node.name}"
    fine = {
        node.func
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and is_opened(node)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and node not in fine:
            full = full_name(node, names)
            module, _, name = full.rpartition(".")
            if name in BY_PATH.get(module, ()):
                found.add(full)
    return found


def is_opened(node: ast.Call) -> bool:
    """Whether a file is made of a descriptor that another call gives."""
    if any(word.arg == "opener" for word in node.keywords):
        return True
    argument = node.args[0] if node.args else None
    return (
        isinstance(argument, ast.Call)
        and isinstance(argument.func, ast.Attribute)
        and argument.func.attr in ("open", "open_own")
    )


def full_name(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{full_name(node.value, names)}.{node.attr}"
    return names.get(node.id, "") if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: str(path.relative_to(CORE)))
def test_no_other_module_touches_a_cache(path: Path) -> None:
    allowed = ALLOWED.get(path.relative_to(CORE).as_posix(), set())
    if allowed is not None:
        assert uses(path.read_text(encoding="utf-8")) <= allowed


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import os\nos.open(path, 0)", "os.open"),
        ("import os as system\nsystem.chmod(path, 0)", "os.chmod"),
        ("from os import truncate\ntruncate(path, 0)", "os.truncate"),
        ("from os import open as look\nlook(path, 0)", "os.open"),
        ("import os\nfunction = os.unlink", "os.unlink"),
        ("import os\nos.path.isdir(path)", "os.path.isdir"),
        ("import shutil\nshutil.rmtree(path)", "shutil.rmtree"),
        ("def f():\n    from shutil import copyfile\n    copyfile(a, b)", None),
        ("open(path)", "builtins.open"),
        ("import os\nopen(os.path.join(folder, name))", "builtins.open"),
        ("import io\nio.FileIO(path)", "io.FileIO"),
        ("from pathlib import Path\nPath(path).unlink()", "pathlib.Path"),
        ("import tempfile\ntempfile.mkdtemp(dir=path)", "tempfile.mkdtemp"),
    ],
)
def test_planted_violations_are_found(code: str, found: str | None) -> None:
    assert uses(code) == {found or "shutil.copyfile"}


@pytest.mark.parametrize(
    "code",
    [
        "open(folder.open(name), 'rb')",
        "import io\nio.FileIO(path, opener=lambda *_: folder.open(file))",
        "import os\nos.close(fd)\nos.path.join(a, b)",
        "def open(uid): pass\nopen(uid)",
    ],
)
def test_what_uses_descriptors_is_fine(code: str) -> None:
    assert uses(code) == set()


# What is opened ------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Cache with a folder and a file, beside a file that is not in it."""
    (tmp_path / "outside" / "b").mkdir(parents=True)
    (tmp_path / "outside" / "file").write_bytes(b"untouched")
    (tmp_path / "outside" / "b" / "file").write_bytes(b"untouched")
    root = tmp_path / "cache"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "file").write_bytes(b"content")
    return root


def untouched(root: Path) -> bool:
    outside = root.parent / "outside"
    return {path.name for path in outside.rglob("*")} == {"b", "file"} and all(
        path.read_bytes() == b"untouched" for path in outside.rglob("file")
    )


CHANGES: dict[str, Callable[[Folder], object]] = {
    "copy": lambda folder: folder.copy("b/file", folder, "b/copy", 0o666),
    "link": lambda folder: folder.link("b/file", folder, "b/link"),
    "make": lambda folder: folder.make("b/c"),
    "make_new": lambda folder: folder.make_new("b/c"),
    "open": lambda folder: folder.open("b/file"),
    "open_own": lambda folder: folder.open_own("b/file"),
    "open_shared": lambda folder: folder.open_shared("b/lock", 0o664),
    "rename": lambda folder: folder.rename("b/file", folder, "b/other"),
    "replace": lambda folder: folder.folder("b").replace("file", b"x"),
    "set_mode": lambda folder: folder.folder("b").set_mode(0o777),
    "status": lambda folder: folder.status("b/file"),
    "sync": lambda folder: folder.sync("b/file"),
    "touch": lambda folder: folder.folder("b").touch(),
    "truncate": lambda folder: folder.truncate("b/file", 0),
    "write": lambda folder: folder.write("b/new", b"x"),
}


@pytest.mark.parametrize("level", ["a", "a/b"])
@pytest.mark.parametrize("change", CHANGES)
def test_link_on_the_way_is_not_followed(root: Path, level: str, change: str) -> None:
    shutil.rmtree(root / level)
    (root / level).symlink_to(root.parent / "outside")
    before = (root.parent / "outside").stat()
    with pytest.raises(NotADirectoryError, match=str(root)):
        CHANGES[change](Folder(str(root), "a"))
    assert untouched(root)
    assert (root.parent / "outside").stat().st_ctime_ns == before.st_ctime_ns


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "a/./b", "a//b"])
@pytest.mark.parametrize("change", CHANGES)
def test_names_do_not_lead_elsewhere(root: Path, name: str, change: str) -> None:
    folder = Folder(str(root)).folder(name)
    with pytest.raises(OSError, match=str(root)):
        CHANGES[change](folder)
    assert untouched(root)
    assert not list((root / "a" / "b").glob("[!f]*"))


def test_note_about_a_model_does_not_lead_out_of_the_cache(
    repository: audmodel.Repository,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = Path(audmodel.load(publish(model_folder)))
    secret = tmp_path / "secret"
    secret.write_bytes(b"guess")
    name = os.path.relpath(secret, folder)
    listing = f"{zlib.crc32(b'guess')} 5 {name}\0".encode()
    head = b"another start:" + blake3(listing).hexdigest().encode()
    note = folder.parent / f".{folder.name}.unsynced"
    note.write_bytes(head + b"\n" + listing)
    marker = Marker(Folder(str(folder.parent)), note.name, folder.name)
    assert marker.unverified_head() == head
    assert not marker.is_right(head)


def test_file_with_a_name_outside_of_the_cache_does_not_become_executable(
    repository: audmodel.Repository, model_folder: Path, tmp_path: Path
) -> None:
    script = model_folder / "run.sh"
    script.write_bytes(b"#!/bin/sh\n")
    script.chmod(0o755)
    uid = publish(model_folder)
    folder = Path(audmodel.load(uid))
    outside = tmp_path / "outside.sh"
    outside.write_bytes(script.read_bytes())
    outside.chmod(0o644)
    (folder / "run.sh").unlink()
    (folder / "run.sh").hardlink_to(outside)
    (folder / "readme.txt").unlink()
    part = Path(audmodel.load(uid, files=["run.sh", "readme.txt"]))
    assert part != folder
    assert audmodel.verify(uid, repair=True).repaired
    assert audmodel.verify(uid).ok
    for path in part, folder:
        assert (path / "run.sh").stat().st_mode & stat.S_IXUSR
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644


def test_file_with_two_names_does_not_become_executable(root: Path) -> None:
    outside = root.parent / "outside" / "file"
    outside.chmod(0o644)
    (root / "a" / "file").hardlink_to(outside)
    with pytest.raises(PermissionError):
        Folder(str(root), "a").make_executable("file")
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644


@pytest.mark.parametrize("level", ["a", "a/b"])
def test_removal_does_not_follow_links(root: Path, level: str) -> None:
    shutil.rmtree(root / level)
    (root / level).symlink_to(root.parent / "outside")
    Folder(str(root), "a").remove("b/file")
    Folder(str(root)).remove("a")
    assert untouched(root)
    assert not (root / "a").exists()


def strange(path: Path, kind: str) -> None:
    """Put something else in the place of a file."""
    path.unlink()
    if kind == "link":
        path.symlink_to(path.parents[3] / "outside" / "file")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))
    elif kind == "folder":
        path.mkdir()
        (path / "file").write_bytes(b"x")
    else:
        os.mknod(path, stat.S_IFCHR, os.makedev(1, 5))


KINDS = ["link", "pipe", "socket", "folder", *(["device"] if os.getuid() == 0 else [])]


@pytest.mark.parametrize("kind", KINDS)
def test_only_regular_files_are_opened(root: Path, kind: str) -> None:
    strange(root / "a" / "b" / "file", kind)
    folder = Folder(str(root), "a/b")
    with pytest.raises(FileNotFoundError):
        folder.open("file")
    assert folder.read("file", 100) is None
    with pytest.raises(OSError, match=str(root)):
        folder.open_shared("file", 0o664)
    assert untouched(root)


@pytest.mark.parametrize("kind", KINDS)
def test_only_own_files_are_written_to(root: Path, kind: str) -> None:
    strange(root / "a" / "b" / "file", kind)
    fd = Folder(str(root), "a/b").open_own("file")
    os.write(fd, b"new")
    os.close(fd)
    assert (root / "a" / "b" / "file").read_bytes() == b"new"
    assert (root / "a" / "b" / "file").is_file()
    assert untouched(root)


def test_file_with_two_names_is_not_written_to(root: Path) -> None:
    path = root / "a" / "b" / "file"
    path.unlink()
    path.hardlink_to(root.parent / "outside" / "file")
    Folder(str(root), "a/b").truncate("file", 0)
    assert path.read_bytes() == b""
    assert untouched(root)


def test_folder_that_was_replaced_is_missing(root: Path) -> None:
    folder = Folder(str(root), "a").pinned()
    assert folder.names() == ["b"]
    (root / "a").rename(root / "old")
    shutil.copytree(root / "old", root / "a")
    for change in CHANGES.values():
        with pytest.raises(FileNotFoundError):
            change(folder)


def test_removal_does_not_wait_for_what_took_the_place_of_a_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = os.unlink

    def swap(name: str, **kwargs: int) -> None:
        try:
            unlink(name, **kwargs)
        except IsADirectoryError:
            os.rename(root / "a" / "b", root / "aside")
            os.mkfifo(root / "a" / "b")
            raise

    monkeypatch.setattr(os, "unlink", swap)
    Folder(str(root), "a").remove("b")
    monkeypatch.undo()
    assert untouched(root)
    Folder(str(root), "a").remove("b")
    assert Folder(str(root), "a").is_empty()


def test_folder_that_is_too_deep_to_remove_is_no_error(root: Path) -> None:
    deep = root / "a" / "b"
    fd = os.open(deep, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("x", dir_fd=fd)
        below = os.open("x", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    Folder(str(root)).remove("a")
    subprocess.run(["rm", "-rf", root / "a"], check=True)


def test_items_below_a_folder(root: Path) -> None:
    (root / "a" / "link").symlink_to(root.parent / "outside")
    items = {item.name: item for item in Folder(str(root)).walk()}
    assert sorted(items) == ["a", "a/b", "a/b/file", "a/link"]
    assert [name for name, item in items.items() if item.is_file] == ["a/b/file"]
    assert Folder(str(root)).folder("a").folders() == ["b"]


# Where a model is put together ---------------------------------------------


def test_other_users_cannot_enter_what_is_not_finished(
    repository: audmodel.Repository,
    model_folder: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uid = publish(model_folder)
    modes: list[str] = []
    extract = Extractor.run

    def look(self: Extractor) -> None:
        modes.extend(oct(path.stat().st_mode) for path in cache.rglob(".1.0.0~*"))
        extract(self)

    monkeypatch.setattr(Extractor, "run", look)
    root = Path(audmodel.load(uid))
    assert modes == ["0o40700"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(root.stat().st_mode) == 0o777 & ~umask


def test_folder_above_hands_its_group_down(
    repository: audmodel.Repository, model_folder: Path, cache: Path
) -> None:
    cache.mkdir()
    cache.chmod(0o2775)
    root = Path(audmodel.load(publish(model_folder)))
    assert root.stat().st_mode & stat.S_ISGID
    assert (root.parent).stat().st_mode & stat.S_ISGID


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_file_of_another_user_is_not_taken_over(
    repository: audmodel.Repository, model_folder: Path, cache: Path, fetched: list[int]
) -> None:
    uid = publish(model_folder)
    left = cache / uid.split("-")[0] / ".1.0.0~left"
    shutil.copytree(model_folder, left)
    other = left / "model.onnx"
    os.chown(other, 65534, 65534)
    # No other file gets the inode while this one is open
    with other.open() as file:
        identity = os.fstat(file.fileno()).st_ino
        root = Path(audmodel.load(uid))
        assert (root / "model.onnx").stat().st_uid == 0
        assert identity not in [path.stat().st_ino for path in root.rglob("*")]
    assert not left.exists()


@pytest.mark.parametrize("size", [100, 9_000_000])
def test_link_that_is_planted_while_a_model_is_loaded(
    repository: audmodel.Repository,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(bytes(range(100)) * (size // 100))
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    uid = publish(folder)
    prepare = Staging.prepare

    def plant(self: Staging, files: Mapping[str, Expected]) -> None:
        prepare(self, files)
        Path(self.path, "file").symlink_to(victim)

    monkeypatch.setattr(Staging, "prepare", plant)
    root = Path(audmodel.load(uid, num_workers=2))
    assert victim.read_bytes() == b"untouched"
    assert not (root / "file").is_symlink()
    assert (root / "file").read_bytes() == (folder / "file").read_bytes()


def test_file_of_exactly_the_limit_is_read(root: Path) -> None:
    (root / "small").write_bytes(b"1234")
    assert Folder(str(root)).read("small", 4) == b"1234"
    assert Folder(str(root)).read("small", 3) is None


def test_link_that_leads_nowhere_is_listed_as_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("missing")
    [item] = Folder(str(tmp_path)).items()
    assert item.name == "link"
    assert stat.S_ISLNK(item.status.st_mode)
