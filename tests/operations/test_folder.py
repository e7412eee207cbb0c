"""Model folders as they come."""

from __future__ import annotations

import os
from pathlib import Path
import random
import stat
import time
from typing import Any

import pytest

import audmodel
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.processes import Interpreter
from tests.users import let_in
from tests.users import needs_root


def test_all_kinds_of_names(repository: audmodel.Repository, tmp_path: Path) -> None:
    root = tmp_path / "root"
    names = [
        ".hidden",
        ".hidden folder/.hidden file",
        "with spaces  and ' quotes \".txt",
        " leading and trailing ",
        "ä ö ü ß/漢字/\N{GRINNING FACE}.bin",
        "nfc \u00e9",
        "-dash",
        "~tilde",
        "$HOME",
        "*?[x]",
        "a:b|c<d>e",
        "UPPER",
        "no.suffix.",
        "x" * 255,
        "/".join(["deep"] * 60) + "/file",
        "archive.zip",
        "model/1.0.0/weights.pt",
    ]
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(str(number).encode())
    (root / "empty").write_bytes(b"")
    uid = publish(root)
    loaded = Path(audmodel.load(uid))
    assert files(loaded) == files(root)
    assert len(files(loaded)) == len(names) + 1


def test_empty_folders_are_left_out(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    (model_folder / "empty" / "inner").mkdir(parents=True)
    loaded = Path(audmodel.load(publish(model_folder)))
    assert not (loaded / "empty").exists()
    assert files(loaded) == files(model_folder)


def test_links_to_files_are_stored_as_content(
    repository: audmodel.Repository, model_folder: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"outside")
    outside.chmod(0o755)
    (model_folder / "link").symlink_to(outside)
    (model_folder / "relative").symlink_to("model.yaml")
    (model_folder / "chain").symlink_to("link")
    os.link(outside, model_folder / "hard")
    loaded = Path(audmodel.load(publish(model_folder)))
    assert files(loaded) == files(model_folder)
    assert not [path for path in loaded.rglob("*") if path.is_symlink()]
    assert os.access(loaded / "chain", os.X_OK)


def test_root_may_be_a_link(
    repository: audmodel.Repository,
    model_folder: Path,
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "link").symlink_to(model_folder)
    uid = publish(tmp_path / "link")
    assert files(audmodel.load(uid)) == files(model_folder)
    (home / "model").symlink_to(model_folder)
    uid = publish(Path("~/model"), version="2.0.0")
    assert files(audmodel.load(uid)) == files(model_folder)
    monkeypatch.chdir(model_folder)
    uid = publish(Path(), version="3.0.0")
    assert files(audmodel.load(uid)) == files(model_folder)


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o644, 0o700, 0o755, 0o777, 0o511])
def test_modes(repository: audmodel.Repository, model_folder: Path, mode: int) -> None:
    (model_folder / "file").write_bytes(b"x")
    (model_folder / "file").chmod(mode)
    loaded = Path(audmodel.load(publish(model_folder))) / "file"
    # Executable or not is all that is kept
    assert bool(loaded.stat().st_mode & stat.S_IXUSR) == bool(mode & stat.S_IXUSR)
    assert loaded.stat().st_mode & stat.S_IWUSR
    assert not loaded.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)


@pytest.mark.thorough
def test_ten_thousand_files(repository: audmodel.Repository, tmp_path: Path) -> None:
    root = tmp_path / "many"
    pattern = random.Random(0)
    for number in range(10_000):
        path = root / f"{number % 100}" / f"file-{number}"
        if number < 100:
            path.parent.mkdir(parents=True)
        path.write_bytes(pattern.randbytes(number % 50))
    start = time.monotonic()
    uid = publish(root, num_workers=4)
    loaded = audmodel.load(uid, num_workers=4)
    assert time.monotonic() - start < 60
    assert files(loaded) == files(root)


def test_file_that_changes_while_it_is_published(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from audmodel.core.operations import folder

    scan = folder.scan

    def change_after(*args: Any) -> folder.ModelFolder:
        found = scan(*args)
        (model_folder / "model.onnx").write_bytes(b"longer than before" * 1000)
        return found

    monkeypatch.setattr(folder, "scan", change_after)
    with pytest.raises(audmodel.errors.FileChangedError, match=r"model\.onnx"):
        publish(model_folder)
    assert content(repository) == {}

    def remove_after(*args: Any) -> folder.ModelFolder:
        found = scan(*args)
        (model_folder / "model.onnx").unlink()
        return found

    monkeypatch.setattr(folder, "scan", remove_after)
    with pytest.raises(audmodel.errors.FileChangedError, match=r"model\.onnx"):
        publish(model_folder)
    assert content(repository) == {}


def test_too_many_files(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("audmodel.core.archive.format.MAX_MEMBERS", 3)
    with pytest.raises(audmodel.errors.InvalidFolderError, match="holds 4 files"):
        publish(model_folder)
    assert content(repository) == {}


def test_file_that_is_removed_after_it_was_read(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stat_of = os.stat
    victim = model_folder / "model.onnx"

    def late(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        if str(path) == str(victim):
            victim.unlink(missing_ok=True)
        return stat_of(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", late)
    with pytest.raises(audmodel.errors.FileChangedError, match=r"model\.onnx"):
        publish(model_folder)
    monkeypatch.undo()
    assert content(repository) == {}


@pytest.mark.parametrize("how", ["open", "stat"])
def test_file_that_cannot_be_read_any_more(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    original = getattr(os, how)

    def fail(path: Any, *args: Any, **kwargs: Any) -> Any:
        if str(path) == str(model_folder / "model.onnx") and not kwargs:
            raise OSError(5, "Input/output error", path)
        return original(path, *args, **kwargs)

    monkeypatch.setattr(os, how, fail)
    with pytest.raises(OSError, match="Input/output") as info:
        publish(model_folder)
    # It is the folder that has a problem, not the repository
    assert not isinstance(info.value, audmodel.errors.AudmodelError)
    monkeypatch.undo()
    assert content(repository) == {}


def test_folders_that_cannot_be_read(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As the tests may run as root, who may read everything
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)
        with pytest.raises(audmodel.errors.InvalidFolderError, match="permission"):
            publish(model_folder)
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("/log"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        with pytest.raises(audmodel.errors.InvalidFolderError, match="log' cannot be"):
            publish(model_folder)
    assert content(repository) == {}


def test_names_that_are_too_long_together(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("audmodel.core.archive.format.MAX_DIRECTORY", 100)
    with pytest.raises(audmodel.errors.InvalidFolderError, match="shorter names"):
        publish(model_folder)
    assert content(repository) == {}


@needs_root
@pytest.mark.parametrize("name", ["secret file", "secret folder"])
def test_what_cannot_be_read(
    repository: audmodel.Repository, python: Interpreter, model_folder: Path, name: str
) -> None:
    if name == "secret file":
        (model_folder / name).write_bytes(b"")
    else:
        (model_folder / name).mkdir()
    (model_folder / name).chmod(0)
    let_in(model_folder)
    code = """
        from audmodel.core.operations import folder
        from tests.users import NOBODY, become
        become(NOBODY)
        try:
            folder.scan(args["root"])
        except audmodel.errors.InvalidFolderError as error:
            return str(error)
    """
    message = python.run(code, root=str(model_folder))
    assert name in message
    assert "cannot be read" in message


def test_too_many_folders(
    repository: audmodel.Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audmodel.core.archive.format.MAX_MEMBERS", 3)
    (tmp_path / "root" / "a" / "b" / "c" / "d").mkdir(parents=True)
    (tmp_path / "root" / "a" / "b" / "c" / "d" / "file").write_bytes(b"")
    with pytest.raises(audmodel.errors.InvalidFolderError, match="4 folders"):
        publish(tmp_path / "root")
    assert content(repository) == {}
