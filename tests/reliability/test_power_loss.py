"""Power may fail between any two calls to the operating system.

What a disk holds afterwards follows from the calls, without a machine to
switch off: data of a file is there if the file was synced after it was
written, a name is there if its folder was synced after it was given. What is
not, may be there or not. So before a name becomes visible, all below it has
to be durable.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import os
from pathlib import Path
import re
import shutil
from typing import Any

import pytest

import audmodel
from audmodel.core import disk
from audmodel.core.backend.reader import FileReader
from audmodel.core.cache import marker as marker_module
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.processes import Interpreter
from tests.reliability.strace import CHANGING
from tests.reliability.strace import SYNCING
from tests.reliability.strace import Call
from tests.reliability.strace import Run
from tests.reliability.strace import Tracer
from tests.users import let_in
from tests.users import needs_root


# Of each family of faults
pytestmark = pytest.mark.sample(1)


class Disk:
    """What is on a disk for sure.

    Attributes:
        renamed: what became visible, in order
        is_lazy: whether models in a cache may be marked instead

    """

    def __init__(self, root: Path) -> None:
        self.is_lazy = True
        self._root = str(root)
        self._written: set[str] = set()
        self._named: set[str] = set()
        self.renamed: list[str] = []

    def replay(self, calls: Sequence[Call]) -> None:
        for call in calls:
            if not call.failed:
                self._apply(call)
        # What is in the cache may go, what is in the repository may not
        lost = {name for name in self._named if _is_visible(name) and "/host/" in name}
        assert not lost, f"in folders that were not synced: {lost}"

    def _apply(self, call: Call) -> None:
        # A path may be relative to a folder that is open
        found = re.findall(r'(?:\d+<([^>]*)>, )?"([^"]*)"', call.text)
        paths = [os.path.join(folder, path) for folder, path in found]
        if call.name in SYNCING:
            (path,) = re.findall(r"^\d+<([^>]*)>", call.text)
            self._written.discard(path)
            self._named = {n for n in self._named if os.path.dirname(n) != path}
        elif call.name in ("write", "pwrite64", "ftruncate", "writev"):
            (path,) = re.findall(r"^\d+<([^>]*)>", call.text)
            if path.startswith(self._root):
                self._written.add(path)
        elif call.name.startswith(("rename", "link")):
            self._move(*paths, keep=call.name.startswith("link"))
        elif call.name.startswith("mkdir") or (
            call.name == "openat" and "O_CREAT" in call.text
        ):
            if paths[-1].startswith(self._root):
                self._named.add(paths[-1].rstrip("/"))
        elif call.name.startswith(("unlink", "rmdir")):
            self._named.discard(paths[-1])
            self._written.discard(paths[-1])

    def _move(self, source: str, target: str, *, keep: bool) -> None:
        below = (source, f"{source}/")
        if _is_visible(target):
            self.renamed.append(target)
            unsafe = {p for p in self._written if p == source or p.startswith(below[1])}
            if not self._is_marked(target):
                assert not unsafe, f"{target} became visible with {unsafe} not synced"
        self._written = {_moved(p, source, target) for p in self._written}
        if not keep:
            self._named = {n for n in self._named if not (n + "/").startswith(below[1])}
        self._named.add(target)

    def _is_marked(self, target: str) -> bool:
        """Whether what is not synced would be found out."""
        folder, name = os.path.split(target)
        marker = os.path.join(folder, f".{name}.unsynced")
        return (
            self.is_lazy
            and marker in self.renamed
            and marker not in self._named
            and marker not in self._written
        )


def _is_visible(path: str) -> bool:
    """Whether a path is one that somebody looks at."""
    folder, name = os.path.split(path)
    if name.endswith(".lock") or "~" in folder:
        return False
    return not name.startswith(".") or name.endswith((".unsynced", "+index", "+origin"))


def _moved(path: str, source: str, target: str) -> str:
    if path == source:
        return target
    return target + path[len(source) :] if path.startswith(source + "/") else path


OPERATIONS = {
    "publish": """
        return audmodel.publish(args["root"], "torch", {}, "2.0.0", alias="new")
    """,
    "load": "return audmodel.load(args['uid'])",
    "load with threads": "return audmodel.load(args['uid'], num_workers=4)",
    "set_alias": "audmodel.set_alias('other', args['uid'])",
    "move alias": "audmodel.set_alias('best', args['uid'])",
    "update_meta": "audmodel.update_meta(args['uid'], {'b': 2})",
    "header": "audmodel.header(args['uid'])",
    "load some files": "return audmodel.load(args['uid'], files=['large', 'log/'])",
    "load the rest": """
        audmodel.load(args["uid"], files="large")
        return audmodel.load(args["uid"])
    """,
    "stream": "return list(audmodel.stream(args['uid'], num_workers=4))",
    "repair": """
        root = audmodel.load(args["uid"])
        os.truncate(os.path.join(root, "large"), 5)
        return audmodel.verify(args["uid"], repair=True).ok
    """,
    "mend": """
        root = audmodel.load(args["uid"])
        os.truncate(os.path.join(root, "large"), 5)
        # The power failed
        from audmodel.core import disk
        disk.boot_id = lambda: "another start"
        return audmodel.load(args["uid"])
    """,
}
# Names that become visible; where a header came from is one of them
EXPECTED = {
    "publish": 7,
    "load": 5,
    "load with threads": 5,
    "set_alias": 4,
    "move alias": 5,
    "update_meta": 4,
    "header": 2,
    "load some files": 5,
    "load the rest": 6,
    "stream": 10,
    "repair": 6,
    "mend": 7,
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_visible_is_on_the_disk(
    operation: str,
    repository: audmodel.Repository,
    model_folder: Path,
    tmp_path: Path,
    tracer: Tracer,
    count: Callable[[str, int], None],
) -> None:
    (model_folder / "large").write_bytes(os.urandom(9_000_000))
    publish(model_folder, version="0.9.0", alias="best")
    uid = publish(model_folder)
    run = tracer.run(
        OPERATIONS[operation],
        watch=CHANGING + SYNCING,
        root=str(model_folder),
        uid=uid,
    )
    assert run.error is None, run
    view = Disk(tmp_path)
    view.replay(run.calls)
    assert len(view.renamed) == EXPECTED[operation], view.renamed
    count("names that became visible, with all below on the disk", len(view.renamed))


def synced(run: Run) -> set[str]:
    """Folders and files that were made durable."""
    calls = [call for call in run.calls if call.name in SYNCING and not call.failed]
    return {re.findall(r"^\d+<([^>]*)>", call.text)[0] for call in calls}


def test_folders_that_a_killed_publisher_made(
    repository: audmodel.Repository, model_folder: Path, tracer: Tracer
) -> None:
    """It may have been killed before it synced them."""
    uid = audmodel.uid("torch", {}, "2.0.0")
    short = uid.split("-")[0]
    root = Path(repository.host, repository.name)
    made = [root / "torch" / short / "2.0.0", root / "_uid" / short / "2.0.0"]
    for folder in made:
        folder.mkdir(parents=True)
    run = tracer.run(
        OPERATIONS["publish"], watch=CHANGING + SYNCING, root=str(model_folder)
    )
    assert run.error is None, run
    for folder in made:
        # The name of a folder is in the one above it
        above = folder
        while above != root:
            above = above.parent
            assert str(above) in synced(run)


def test_folders_of_the_embedded_repository(model_folder: Path, tracer: Tracer) -> None:
    code = """
        vars(audmodel.config).update(_repositories=None)
        root = audmodel.config.REPOSITORIES[0]
        folder = os.path.join(os.path.expanduser(root.host), root.name)
        # A publisher was killed who had just made it
        os.makedirs(folder)
        audmodel.publish(args["root"], "torch", {}, "2.0.0")
        return [folder, os.path.expanduser("~")]
    """
    run = tracer.run(code, watch=CHANGING + SYNCING, root=str(model_folder))
    assert run.error is None, run
    folder, home = map(Path, run.result)
    assert home in folder.parents
    while folder != home:
        folder = folder.parent
        assert str(folder) in synced(run)


# Machines that were started again -----------------------------------------


@pytest.fixture
def uid(repository: audmodel.Repository, model_folder: Path) -> str:
    (model_folder / "large").write_bytes(os.urandom(9_000_000))
    return publish(model_folder)


@pytest.fixture
def loaded(uid: str) -> Path:
    """A model that was loaded before the machine was started again."""
    return Path(audmodel.load(uid))


@pytest.fixture
def start_again(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Start the machine again, which ends all processes as well."""
    starts = iter(range(100))

    def start() -> None:
        name = f"start-{next(starts)}"
        monkeypatch.setattr(disk, "boot_id", lambda: name)
        marker_module._verified.clear()

    return start


def marker(root: Path) -> Path:
    return root.parent / ".1.0.0.unsynced"


def damage(root: Path, what: str) -> None:
    if what == "zeros":
        size = (root / "large").stat().st_size
        os.truncate(root / "large", 5_000_000)
        os.truncate(root / "large", size)
    elif what == "empty":
        os.truncate(root / "model.yaml", 0)
    elif what == "missing":
        (root / "log" / "eval.yaml").unlink()
    elif what == "empty folder":
        shutil.rmtree(root)
        root.mkdir()
    elif what == "unreadable":
        (root / "model.yaml").unlink()
        (root / "model.yaml").symlink_to("/nonexistent")


@pytest.mark.parametrize(
    "what", ["zeros", "empty", "missing", "empty folder", "unreadable"]
)
def test_damaged_model_is_mended(
    what: str,
    uid: str,
    loaded: Path,
    model_folder: Path,
    start_again: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start_again()
    damage(loaded, what)
    fetched: list[int] = []
    readinto = FileReader._readinto

    def count(self: FileReader, offset: int, view: memoryview) -> None:
        fetched.append(len(view))
        readinto(self, offset, view)

    monkeypatch.setattr(FileReader, "_readinto", count)
    assert audmodel.load(uid) == str(loaded)
    assert files(loaded) == files(model_folder)
    assert not list(loaded.parent.glob(".*~*"))
    if what == "zeros":
        # What is right stays
        assert sum(fetched) < 9_000_000
    start_again()
    assert audmodel.load(uid) == str(loaded)
    assert files(loaded) == files(model_folder)


def test_sound_model_needs_no_repository(
    uid: str,
    loaded: Path,
    model_folder: Path,
    repository: audmodel.Repository,
    start_again: Callable[[], None],
) -> None:
    shutil.rmtree(repository.host)
    start_again()
    assert audmodel.load(uid) == str(loaded)
    assert files(loaded) == files(model_folder)
    # It is compared once, whatever happens to it later
    assert not marker(loaded).exists()
    damage(loaded, "zeros")
    start_again()
    assert audmodel.load(uid) == str(loaded)


def test_files_that_were_put_into_a_model_make_no_difference(
    uid: str,
    loaded: Path,
    model_folder: Path,
    repository: audmodel.Repository,
    start_again: Callable[[], None],
) -> None:
    shutil.rmtree(repository.host)
    (loaded / "__pycache__").mkdir()
    (loaded / "__pycache__" / "model.cpython-311.pyc").write_bytes(b"compiled")
    inode = loaded.stat().st_ino
    start_again()
    assert audmodel.load(uid) == str(loaded)
    assert loaded.stat().st_ino == inode
    assert files(loaded) == {
        **files(model_folder),
        "__pycache__/model.cpython-311.pyc": b"compiled",
    }
    assert not marker(loaded).exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-1],
        lambda content: content.partition(b"\n")[0],
        lambda content: content.replace(b"\n", b"\n1", 1),
        lambda content: b"another:" + b"0" * 64,
        lambda content: b"",
        lambda content: bytes(2000),
    ],
)
def test_damaged_note(
    uid: str,
    loaded: Path,
    model_folder: Path,
    start_again: Callable[[], None],
    change: Callable[[bytes], bytes],
) -> None:
    start_again()
    marker(loaded).write_bytes(change(marker(loaded).read_bytes()))
    damage(loaded, "empty")
    assert audmodel.load(uid) == str(loaded)
    assert files(loaded) == files(model_folder)


def test_damaged_model_without_repository(
    uid: str,
    loaded: Path,
    model_folder: Path,
    repository: audmodel.Repository,
    start_again: Callable[[], None],
) -> None:
    os.rename(repository.host, f"{repository.host}-away")
    start_again()
    damage(loaded, "zeros")
    for _ in range(2):
        with pytest.raises(audmodel.errors.RepositoryError):
            audmodel.load(uid)
    os.rename(f"{repository.host}-away", repository.host)
    assert files(audmodel.load(uid)) == files(model_folder)


def test_models_of_this_start_are_taken_as_they_are(
    uid: str, loaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> Any:
        raise AssertionError("Nothing is compared while the machine runs.")

    monkeypatch.setattr(marker_module, "_are_right", refuse)
    assert audmodel.load(uid) == str(loaded)
    assert marker(loaded).exists()


def test_model_of_an_earlier_release(
    uid: str, loaded: Path, start_again: Callable[[], None]
) -> None:
    # It leaves no word about what it has loaded
    marker(loaded).unlink()
    start_again()
    assert audmodel.load(uid) == str(loaded)


@needs_root
def test_cache_that_cannot_be_written_to(
    uid: str,
    loaded: Path,
    python: Interpreter,
    tmp_path: Path,
    model_folder: Path,
) -> None:
    let_in(tmp_path)
    content = marker(loaded).read_text()
    marker(loaded).write_text("another start:" + content.partition(":")[2])
    before = sorted(loaded.parent.iterdir())
    code = """
        from audmodel.core.cache import marker
        from tests.users import NOBODY, become
        become(NOBODY)
        compare = marker._are_right
        calls = []
        def counting(root, listing):
            calls.append(root)
            return compare(root, listing)
        marker._are_right = counting
        return [audmodel.load(args["uid"]), audmodel.load(args["uid"]), len(calls)]
    """
    assert python.run(code, uid=uid) == [str(loaded), str(loaded), 1]
    assert sorted(loaded.parent.iterdir()) == before


def test_machine_that_cannot_tell_its_starts_apart(
    uid: str,
    repository: audmodel.Repository,
    tracer: Tracer,
    tmp_path: Path,
) -> None:
    code = """
        from audmodel.core import disk
        disk.boot_id = lambda: ""
        first = audmodel.load(args["uid"])
        return [first, audmodel.load(args["uid"])]
    """
    run: Run = tracer.run(code, watch=CHANGING + SYNCING, uid=uid)
    assert run.result is not None, run
    view = Disk(tmp_path)
    view.is_lazy = False
    view.replay(run.calls)
    assert view.renamed[-1].endswith("/1.0.0")


def test_two_find_a_model_of_an_earlier_start(
    uid: str,
    loaded: Path,
    python: Interpreter,
    model_folder: Path,
) -> None:
    content = marker(loaded).read_text()
    for what in ("", "zeros"):
        marker(loaded).write_text("another start:" + content.partition(":")[2])
        damage(loaded, what)
        code = """
            barrier(args["what"])
            return audmodel.load(args["uid"])
        """
        assert python.run_many(code, 6, uid=uid, what=what) == [str(loaded)] * 6
        assert files(loaded) == files(model_folder)
        assert not list(loaded.parent.glob(".*~*"))
