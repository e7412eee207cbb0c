"""The right files are loaded even if the model that is copied from changes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import contextlib
import os
from pathlib import Path
import random
import shutil
import threading

import pytest

import audmodel
from audmodel.core.archive import existing
from audmodel.core.archive.seeds import Seed
from audmodel.core.archive.seeds import fill
from audmodel.core.backend.reader import TAIL
from tests.archive.test_cuts import safetensors
from tests.archive.tools import make_folder
from tests.archive.tools import noise
from tests.archive.tools import read_folder
from tests.backends.proxy import flip
from tests.behaviour.backends import publish


# Of each family of faults
pytestmark = pytest.mark.sample(2)


MIB = 1 << 20
FILES = {
    "large.bin": noise(13 * MIB),
    **{f"small/{n}.bin": noise(400_000, n) for n in range(10)},
}
CHANGED = {**FILES, "z.bin": noise(300_000, 100)}


class Case:
    """Two versions of a model, of which the first one is in the cache."""

    def __init__(self, root: Path) -> None:
        self.first = publish(make_folder(root / "first", FILES))
        self.second = publish(make_folder(root / "second", CHANGED), version="2.0.0")
        self.source = Path(audmodel.load(self.first))

    def load(self, num_workers: int) -> None:
        assert read_folder(audmodel.load(self.second, num_workers=num_workers)) == (
            CHANGED
        )
        assert audmodel.verify(self.second).ok

    def forget(self) -> None:
        audmodel.remove_cached(self.second)


@pytest.fixture
def case(repository: audmodel.Repository, tmp_path: Path) -> Case:
    return Case(tmp_path)


def remove(case: Case) -> None:
    audmodel.remove_cached(case.first)


def prune(case: Case) -> None:
    removed = audmodel.prune_cache(max_size=0)
    assert [model.uid for model in removed] == [case.first]


def delete(case: Case) -> None:
    for path in case.source.rglob("*.bin"):
        path.unlink()


def truncate(case: Case) -> None:
    for path in case.source.rglob("*.bin"):
        os.truncate(path, 100_000)


def overwrite(case: Case) -> None:
    for path in case.source.rglob("*.bin"):
        path.write_bytes(bytes(path.stat().st_size))


def replace(case: Case) -> None:
    case.source.rename(case.source.with_name("moved"))
    make_folder(case.source, {name: b"other" * len(FILES[name]) for name in FILES})


def link(case: Case) -> None:
    case.source.rename(case.source.with_name("moved"))
    case.source.symlink_to(case.source.with_name("moved"))


def link_files(case: Case) -> None:
    for path in case.source.rglob("*.bin"):
        path.rename(path.with_suffix(".moved"))
        path.symlink_to(path.with_suffix(".moved"))


def pipe(case: Case) -> None:
    for path in case.source.rglob("*.bin"):
        path.unlink()
        os.mkfifo(path)


def mode(case: Case) -> None:
    for path in case.source.rglob("*.bin"):
        path.chmod(0)


def forget_directory(case: Case) -> None:
    case.source.with_name(".1.0.0+index").unlink()


FAULTS = [
    remove,
    prune,
    delete,
    truncate,
    overwrite,
    replace,
    link,
    link_files,
    pipe,
    mode,
    forget_directory,
]


@pytest.mark.parametrize("num_workers", [1, 4])
@pytest.mark.parametrize("number", [0, 1, 5])
@pytest.mark.parametrize("fault", FAULTS)
def test_source_changes_while_it_is_copied(
    case: Case,
    fault: Callable[[Case], None],
    number: int,
    num_workers: int,
    monkeypatch: pytest.MonkeyPatch,
    count: Callable[[str, int], None],
) -> None:
    calls = iter(range(1000))

    def fill_after_fault(seed: Seed, digest: bytes, view: memoryview) -> bool:
        if next(calls) == number:
            fault(case)
        return fill(seed, digest, view)

    monkeypatch.setattr(existing, "fill", fill_after_fault)
    case.load(num_workers)
    assert next(calls) > number
    count("models that change while they are copied from, right files", 1)


@pytest.mark.parametrize("what", ["files", "directory"])
def test_flipped_bits_of_the_source(
    case: Case,
    what: str,
    chance: random.Random,
    torture: int,
    count: Callable[[str, int], None],
) -> None:
    rounds = 300 * torture or 4
    for _ in range(rounds):
        path = case.source.with_name(".1.0.0+index")
        if what == "files":
            path = chance.choice([*case.source.rglob("*.bin")])
        content = path.read_bytes()
        path.write_bytes(flip(content, chance.randrange(8 * len(content))))
        case.load(4)
        case.forget()
        path.write_bytes(content)
    count("flipped bits: models that are copied from, right files", rounds)


def test_directory_of_a_stranger(case: Case) -> None:
    """It says of every file what is in another one."""
    folder = case.source.parent
    folder.joinpath(".3.0.0+index").write_bytes(
        folder.joinpath(".1.0.0+index").read_bytes()
    )
    folder.joinpath("3.0.0").mkdir()
    for name, content in FILES.items():
        path = folder / "3.0.0" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(noise(len(content), 1234))
    case.load(2)
    case.forget()
    shutil.rmtree(folder / "3.0.0")
    os.mkfifo(folder / "3.0.0")
    case.load(2)


def test_source_is_loaded_and_removed_meanwhile(
    case: Case, torture: int, count: Callable[[str, int], None]
) -> None:
    done = threading.Event()

    def disturb() -> None:
        while not done.is_set():
            with contextlib.suppress(audmodel.errors.CacheBusyError):
                audmodel.remove_cached(case.first)
            audmodel.load(case.first)

    rounds = 100 * torture or 8
    with ThreadPoolExecutor(1) as executor:
        other = executor.submit(disturb)
        try:
            for _ in range(rounds):
                case.load(2)
                case.forget()
        finally:
            done.set()
        other.result()
    count("loads while the model that is copied from comes and goes", rounds)


# Random edits ----------------------------------------------------------------


def edited(files: dict[str, bytes], chance: random.Random) -> dict[str, bytes]:
    """Files of which some were changed, moved, joined, or removed."""
    result = dict(files)
    for _ in range(chance.randrange(1, 5)):
        name = chance.choice(sorted(result))
        content = result[name]
        position = chance.randrange(len(content) + 1)
        kind = chance.choice(["change", "insert", "cut", "rename", "copy", "join"])
        if kind == "change":
            length = min(100, len(content) - position)
            content = (
                content[:position]
                + chance.randbytes(length)
                + content[position + length :]
            )
        elif kind == "insert":
            content = content[:position] + chance.randbytes(50) + content[position:]
        elif kind == "cut":
            content = content[:position]
        elif kind == "join":
            content += result[chance.choice(sorted(result))]
        elif kind == "rename":
            del result[name]
        if kind in ("rename", "copy"):
            name = f"{chance.randrange(10)}/{chance.randrange(10**6)}.bin"
        result[name] = content[: 20 * MIB]
    return result


def test_random_edits(
    repository: audmodel.Repository,
    tmp_path: Path,
    chance: random.Random,
    torture: int,
    count: Callable[[str, int], None],
    fetched: list[int],
) -> None:
    """What is loaded after other versions is what was published, and as planned."""
    tensors = [chance.randbytes(chance.randrange(1, 2 * MIB)) for _ in range(8)]
    files = {
        "model.safetensors": safetensors(*tensors)[0],
        "large.bin": chance.randbytes(9 * MIB),
        "empty": b"",
        **{f"{n}/small.bin": chance.randbytes(n * 50_000) for n in range(10)},
    }
    audmodel.load(publish(make_folder(tmp_path / "0", files), version="0.0.1"))
    base = files
    rounds = 100 * torture or 6
    for number in range(1, rounds + 1):
        files = edited(files, chance)
        if sum(map(len, files.values())) > 60 * MIB:
            files = edited(base, chance)
        root = make_folder(tmp_path / str(number), files)
        compression = chance.choice([0, 1, 9])
        uid = publish(root, version=f"{number}.0.0", compression=compression)
        num_workers = chance.choice([1, 3])
        plan = audmodel.plan_load(uid, num_workers=num_workers)
        fetched.clear()
        assert read_folder(audmodel.load(uid, num_workers=num_workers)) == files
        tail = min(TAIL, plan.bytes)
        assert plan.exact
        assert plan.bytes == sum(fetched) + tail
        shutil.rmtree(root)
        if number > 3:
            old = f"{number - 3}.0.0"
            audmodel.remove_cached(uid.replace(f"{number}.0.0", old))
            [archive] = Path(repository.host).rglob(f"*-{old}.zip")
            archive.unlink()
    count("loads after random edits of other versions: right, as planned", rounds)
