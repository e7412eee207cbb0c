"""Another user replaces what is in a shared cache while it is used.

At every path that the library opens, as soon as it does,
something else is put: links to what only the victim may change,
pipes, devices, folders, and files of the attacker.
Nothing outside of the cache may change, and nothing may block.

``TORTURE=1`` races for two minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import os
from pathlib import Path
import stat
import tempfile
import textwrap
import time

import pytest

import audmodel
from audmodel.core.cache.tree import Folder
from tests.behaviour.backends import publish
from tests.processes import Interpreter
from tests.processes import Process
from tests.users import needs_root


VICTIM, ATTACKER = 65533, 65534
MIB = 1 << 20
IS_ROOT = os.getuid() == 0
KINDS = [
    *("link to a file", "link to a folder", "link to nothing", "pipe", "folder"),
    *("file", "nothing"),
    *(["device"] if IS_ROOT else []),
]

BECOME = """
    if os.getuid() == 0:
        from tests.users import become
        become(args["user"])
    # What the victim makes can be changed by all, but what it keeps for itself
    os.umask(0)
"""

LOADS = """
    import datetime, random, signal
    chance = random.Random(args["seed"])
    uid = args["uid"]
    tries = done = 0
    def read(file):
        with file:
            file.read(100)
    def stream(**arguments):
        for path in audmodel.stream(uid, timeout=0.2, **arguments):
            if chance.random() < 0.1:
                break
    calls = [
        lambda: audmodel.load(uid, timeout=0.2, num_workers=chance.choice([1, 3])),
        lambda: audmodel.load(uid, files=["large.bin", "a/"], timeout=0.2),
        lambda: stream(),
        lambda: stream(files="a/*"),
        lambda: read(audmodel.open(uid, "a/b/1")),
        lambda: audmodel.verify(uid, repair=True, timeout=0.2),
        lambda: audmodel.prune_cache(max_size=0),
        lambda: audmodel.remove_cached(uid),
        lambda: audmodel.plan_load(uid, files="a/*"),
        lambda: audmodel.cached(),
        lambda: audmodel.header(uid),
        lambda: audmodel.files(uid),
    ]
    end = time.time() + args["seconds"]
    while time.time() < end:
        # A call that blocks ends the process
        signal.alarm(60)
        call = chance.choice(calls)
        tries += 1
        try:
            call()
            done += 1
        except (audmodel.errors.AudmodelError, OSError):
            pass
        signal.alarm(0)
    return tries, done
"""

ATTACKS = """
    import ctypes, random, shutil, struct
    chance = random.Random(args["seed"])
    root, outside, mine = args["cache_root"], args["outside"], args["mine"]
    libc = ctypes.CDLL(None)
    CREATE, MOVED_TO, OPEN, MODIFY, ONLY_FOLDERS = 0x100, 0x80, 0x20, 0x2, 0x1000000
    events = libc.inotify_init1(os.O_NONBLOCK)
    watched = {}
    planted = 0

    def watch(path):
        mask = CREATE | MOVED_TO | OPEN | MODIFY | ONLY_FOLDERS
        number = libc.inotify_add_watch(events, path.encode(), mask)
        if number >= 0:
            watched[number] = path

    def look(path):
        # All folders that can be looked into
        try:
            entries = list(os.scandir(path))
        except OSError:
            return []
        watch(path)
        below = [e.path for e in entries if e.is_dir(follow_symlinks=False)]
        return [e.path for e in entries] + [p for b in below for p in look(b)]

    def seen():
        # Paths that something happened to
        try:
            data = os.read(events, 65536)
        except BlockingIOError:
            return []
        paths, position = [], 0
        while position < len(data):
            number, mask, _, length = struct.unpack_from("iIII", data, position)
            name = data[position + 16 : position + 16 + length].rstrip(b"\\0").decode()
            position += 16 + length
            if number in watched:
                paths.append(os.path.join(watched[number], name) if name else
                             watched[number])
        return paths

    def plant(path):
        aside = os.path.join(mine, "aside-%x" % chance.getrandbits(64))
        os.rename(path, aside)
        kind = chance.choice(args["kinds"])
        if kind == "link to a file":
            os.symlink(os.path.join(outside, "private"), path)
        elif kind == "link to a folder":
            os.symlink(os.path.join(outside, "folder"), path)
        elif kind == "link to nothing":
            os.symlink(os.path.join(outside, "new"), path)
        elif kind == "pipe":
            os.mkfifo(path, 0o666)
        elif kind == "device":
            nodes = [name for name in os.listdir(mine) if name.startswith("node")]
            os.rename(os.path.join(mine, chance.choice(nodes)), path)
        elif kind == "folder":
            os.mkdir(path)
        elif kind == "file":
            with open(path, "xb") as file:
                file.write(b"x" * 1000)
        if chance.random() < 0.7:
            time.sleep(chance.choice([0, 0, 0.0001, 0.001]))
            os.rename(path, os.path.join(mine, "used-%x" % chance.getrandbits(64)))
            os.rename(aside, path)

    end = time.time() + args["seconds"]
    while time.time() < end:
        paths = [path for path in seen() if path.startswith(root + "/")]
        if not paths:
            everything = [path for path in look(root) if path != root]
            paths = [chance.choice(everything)] if everything else []
        for path in paths[:20]:
            if chance.random() < args["rate"]:
                try:
                    plant(path)
                    planted += 1
                except (OSError, IndexError):
                    pass
    return planted
"""


def start(
    python: Interpreter, code: str, count: int, user: int, **arguments: object
) -> list[Process]:
    code = textwrap.dedent(BECOME) + textwrap.dedent(code)
    seed = int(str(arguments.pop("seed")))
    return [
        python.start(code, user=user, seed=seed + number, **arguments)
        for number in range(count)
    ]


def snapshot(folder: Path) -> dict[str, object]:
    """What cannot be the same after anything was changed."""
    found: dict[str, object] = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        times = status.st_mtime_ns, status.st_ctime_ns
        found[str(path)] = status.st_mode, status.st_nlink, times, content
    return found


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder that other users can enter, whatever else pytest runs, with a cache."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "host" / "models").mkdir(parents=True)
        (folder / "cache").mkdir()
        (folder / "cache").chmod(0o777)
        repository = audmodel.Repository("models", str(folder / "host"), "file-system")
        monkeypatch.setattr(audmodel.config, "REPOSITORIES", [repository])
        monkeypatch.setattr(audmodel.config, "CACHE_ROOT", str(folder / "cache"))
        yield folder


@pytest.fixture
def outside(place: Path) -> Path:
    """What only the victim may change, with names that a cache has as well."""
    folder = place / "outside"
    (folder / "folder" / "a" / "b").mkdir(parents=True)
    names = ["large.bin", "a/b/1", ".1.0.0.lock", "1.0.0.header.yaml", "1.0.0/a"]
    (folder / "folder" / "1.0.0").mkdir()
    for name in ["../private", *names]:
        (folder / "folder" / name).write_bytes(b"private" * 1000)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
        if IS_ROOT:
            os.chown(path, VICTIM, VICTIM)
    return folder


@pytest.fixture
def mine(place: Path) -> Path:
    """Folder of the attacker, with devices that only root can make."""
    folder = place / "mine"
    folder.mkdir()
    if IS_ROOT:
        for number in range(200):
            node = folder / f"node{number}"
            os.mknod(node, stat.S_IFCHR, os.makedev(1, 5))
            node.chmod(0o666)
        os.chown(folder, ATTACKER, ATTACKER)
    return folder


@pytest.fixture
def raced(place: Path, tmp_path: Path) -> str:
    """Model with a file of several parts, and small ones."""
    folder = tmp_path / "model"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "large.bin").write_bytes(os.urandom(9 * MIB))
    for number in range(20):
        (folder / "a" / "b" / str(number)).write_bytes(os.urandom(100))
    return publish(folder)


def sweep(cache: Path) -> None:
    """Remove what the victim cannot, which would end the race."""
    for name in os.listdir(cache):
        Folder(str(cache)).remove(name)


@needs_root
def test_nothing_outside_of_the_cache_changes(
    raced: str,
    python: Interpreter,
    place: Path,
    outside: Path,
    mine: Path,
    torture: int,
    seed: int,
    count: Callable[[str, int], None],
) -> None:
    seconds = 120 * torture or 4
    before = snapshot(outside)
    victims = start(python, LOADS, 2, VICTIM, uid=raced, seconds=seconds, seed=seed)
    paths = {"outside": str(outside), "mine": str(mine)}
    attackers = [
        process
        for rate in (0.02, 0.3)
        for process in start(
            python,
            ATTACKS,
            1,
            ATTACKER,
            rate=rate,
            seconds=seconds,
            kinds=KINDS,
            seed=seed,
            **paths,
        )
    ]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.7)
        sweep(place / "cache")
    results = [process.result(seconds + 100) for process in victims]
    planted = [process.result() for process in attackers]
    count("calls in a cache that another user changes", sum(n for n, _ in results))
    count("of them that succeeded", sum(done for _, done in results))
    count("files and folders that were replaced in use", sum(planted))
    assert min(done for _, done in results) > 0
    assert min(planted) > 0
    assert snapshot(outside) == before
