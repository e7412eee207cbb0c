"""A cache in an image, whose folders cannot be renamed."""

from __future__ import annotations

from collections.abc import Callable
import errno
import os
from pathlib import Path
import shutil
from typing import Any

import pytest

import audmodel
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.processes import Interpreter


# Runs the rest where the cache is the upper one of two layers
OVERLAY = """
    import ctypes, subprocess
    libc = ctypes.CDLL(None, use_errno=True)
    NEW_MOUNTS, ALL_BELOW, PRIVATE = 0x20000, 0x4000, 0x40000
    def check(result):
        if result:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    check(libc.unshare(NEW_MOUNTS))
    check(libc.mount(b"none", b"/", None, ALL_BELOW | PRIVATE, None))
    root = args["cache_root"]
    layers = {name: os.path.join(args["layers"], name) for name in ("top", "work")}
    for path in layers.values():
        os.mkdir(path)
    options = f"lowerdir={root},upperdir={layers['top']},workdir={layers['work']}"
    check(libc.mount(b"overlay", root.encode(), b"overlay", 0, options.encode()))
    uid = args["uid"]
"""


def overlay_works() -> bool:
    return os.getuid() == 0 and b"overlay" in Path("/proc/filesystems").read_bytes()


@pytest.fixture
def uid(repository: audmodel.Repository, model_folder: Path) -> str:
    """Model with a large file, and more."""
    (model_folder / "large").write_bytes(os.urandom(9_000_000))
    return publish(model_folder)


MEND = """
    from audmodel.core.cache import marker
    path = os.path.join(os.path.dirname(args["root"]), ".1.0.0.unsynced")
    content = open(path, "rb").read()
    # The image was made on another machine, and a file is damaged
    with open(path, "wb") as file:
        file.write(b"another start:" + content.partition(b":")[2])
    with open(os.path.join(args["root"], "large"), "r+b") as file:
        file.write(b"damaged")
    root = audmodel.load(uid)
    return {
        os.path.relpath(os.path.join(folder, name), root):
            open(os.path.join(folder, name), "rb").read().hex()
        for folder, _, names in os.walk(root) for name in names
    }
"""


@pytest.mark.skipif(not overlay_works(), reason="only root can mount an overlay")
def test_model_in_an_image_is_mended(
    uid: str, python: Interpreter, model_folder: Path, tmp_path: Path
) -> None:
    root = audmodel.load(uid)
    before = files(root)
    (tmp_path / "layers").mkdir()
    found = python.run(
        OVERLAY + MEND, uid=uid, root=root, layers=str(tmp_path / "layers")
    )
    assert {name: bytes.fromhex(text) for name, text in found.items()} == {
        str(path.relative_to(model_folder)): path.read_bytes()
        for path in model_folder.rglob("*")
        if path.is_file()
    }
    assert files(root) == before


REMOVE = """
    if args["how"] == "prune":
        removed = audmodel.prune_cache(max_size=0)
    else:
        removed = audmodel.remove_cached(uid)
    left = audmodel.cached()
    shown = os.path.exists(args["root"])
    again = audmodel.load(uid, files=args["files"])
    return [len(removed), len(left), shown, sorted(os.listdir(again))]
"""


@pytest.mark.skipif(not overlay_works(), reason="only root can mount an overlay")
@pytest.mark.parametrize("how", ["prune", "remove"])
@pytest.mark.parametrize("patterns", [None, ["large"]])
def test_model_in_an_image_is_removed(
    uid: str,
    python: Interpreter,
    tmp_path: Path,
    how: str,
    patterns: list[str] | None,
) -> None:
    root = audmodel.load(uid, files=patterns)
    (tmp_path / "layers").mkdir()
    found = python.run(
        OVERLAY + REMOVE,
        uid=uid,
        root=root,
        layers=str(tmp_path / "layers"),
        how=how,
        files=patterns,
    )
    assert found == [1, 0, False, sorted(os.listdir(root))]


# The same where none can be mounted ----------------------------------------


@pytest.fixture
def image(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Let no folder be renamed that is there now."""
    rename = os.rename

    def freeze(cache: Path) -> None:
        below = {str(path) for path in cache.rglob("*") if path.is_dir()}

        def refuse(source: str, target: str, **kwargs: Any) -> None:
            folder = os.readlink(f"/proc/self/fd/{kwargs.get('src_dir_fd')}")
            if os.path.join(folder, source) in below:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            rename(source, target, **kwargs)

        monkeypatch.setattr(os, "rename", refuse)

    return freeze


def start_again(root: Path) -> None:
    marker = root.parent / f".{root.name}.unsynced"
    head, _, rest = marker.read_bytes().partition(b":")
    marker.write_bytes(b"another start:" + rest)
    assert head != b"another start"


def test_right_files_in_an_image_are_not_fetched_again(
    uid: str,
    cache: Path,
    model_folder: Path,
    image: Callable[[Path], None],
    fetched: list[int],
) -> None:
    root = Path(audmodel.load(uid))
    (root / "readme.txt").write_text("damaged")
    start_again(root)
    image(cache)
    fetched.clear()
    assert files(audmodel.load(uid)) == files(model_folder)
    assert sum(fetched) < 1_000_000


def test_removal_from_an_image_that_ends_early(
    uid: str,
    cache: Path,
    model_folder: Path,
    image: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = Path(audmodel.load(uid))
    image(cache)
    with monkeypatch.context() as patch:

        def end(self: Any, name: str) -> None:
            shutil.rmtree(root / "log", ignore_errors=True)
            raise KeyboardInterrupt

        patch.setattr("audmodel.core.cache.tree.Folder.remove", end)
        with pytest.raises(KeyboardInterrupt):
            audmodel.remove_cached(uid)
    # What is left of it is not the model
    assert (root / "large").exists()
    assert files(audmodel.load(uid)) == files(model_folder)


def test_attempt_in_an_image_goes_on(
    uid: str,
    cache: Path,
    model_folder: Path,
    image: Callable[[Path], None],
    fetched: list[int],
) -> None:
    left = cache / uid.split("-")[0] / ".1.0.0~0123"
    left.mkdir(parents=True)
    shutil.copyfile(model_folder / "large", left / "large")
    image(cache)
    assert files(audmodel.load(uid)) == files(model_folder)
    assert sum(fetched) < 1_000_000
    assert not left.exists()
