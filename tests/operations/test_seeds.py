"""Parts that other models in the cache have are copied, and not fetched."""

from __future__ import annotations

from collections.abc import Callable
import logging
from pathlib import Path
from typing import Any
from typing import TypeAlias

import pytest

import audmodel
from audmodel.core.backend.reader import TAIL
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.operations import index
from audmodel.core.progress.counters import Progress
from tests.archive.test_cuts import safetensors
from tests.archive.tools import make_folder
from tests.archive.tools import noise
from tests.archive.tools import read_folder
from tests.behaviour.backends import publish


MIB = 1 << 20
TENSORS = [noise(MIB, seed) for seed in range(24)]
LOG = {f"log/{n}.txt": noise(3000, 100 + n) for n in range(20)}


def weights(*, pad: int = 0, **changed: bytes) -> bytes:
    """File of tensors, some of which are others."""
    tensors = [changed.get(f"t{n}", tensor) for n, tensor in enumerate(TENSORS)]
    return safetensors(*tensors, pad=pad)[0]


FILES = {"a.bin": noise(9 * MIB, 77), "model.safetensors": weights(), **LOG}
CHANGED = {**FILES, "model.safetensors": weights(t7=noise(MIB, 999))}

Publish: TypeAlias = Callable[..., str]


@pytest.fixture
def published(repository: audmodel.Repository, tmp_path: Path) -> Publish:
    """Publish files as a version."""

    def call(version: str, files: dict[str, bytes], **more: Any) -> str:
        root = make_folder(tmp_path / f"{version} {more}", files)
        return publish(root, version=version, **more)

    return call


@pytest.fixture
def uid(published: Publish) -> str:
    """Second version of a model, of which the first one is in the cache."""
    audmodel.load(published("1.0.0", FILES))
    return published("2.0.0", CHANGED)


@pytest.mark.parametrize("num_workers", [1, 4])
def test_one_tensor_changed(uid: str, num_workers: int, fetched: list[int]) -> None:
    fetched.clear()
    root = audmodel.load(uid, num_workers=num_workers)
    assert fetched == [MIB]
    assert read_folder(root) == CHANGED
    assert audmodel.verify(uid).ok


def test_header_grew_and_files_moved(published: Publish, fetched: list[int]) -> None:
    moved = {f"other/{name}": content for name, content in LOG.items()}
    moved |= {"b.bin": FILES["a.bin"], "c.bin": FILES["a.bin"], "d/empty": b""}
    moved["model.safetensors"] = weights(pad=5000)
    audmodel.load(published("1.0.0", FILES))
    uid = published("2.0.0", moved)
    fetched.clear()
    root = audmodel.load(uid, num_workers=4)
    assert sum(fetched) < 20_000
    assert read_folder(root) == moved


def test_compressed_archive(published: Publish, fetched: list[int]) -> None:
    files = {"a.bin": bytes(9 * MIB) + noise(9 * MIB), "b.txt": b"text " * 200_000}
    audmodel.load(published("1.0.0", files, compression=0))
    uid = published("2.0.0", files, compression=9)
    fetched.clear()
    assert read_folder(audmodel.load(uid)) == files
    assert fetched == []


def test_executable_file(published: Publish, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "folder", FILES)
    audmodel.load(publish(root))
    for path in (root / "a.bin", root / "log/0.txt"):
        path.chmod(0o755)
    loaded = Path(audmodel.load(publish(root, version="2.0.0")))
    for name in FILES:
        mode = (loaded / name).stat().st_mode
        assert bool(mode & 0o100) == (name in ("a.bin", "log/0.txt"))


def test_copies_are_independent(uid: str) -> None:
    first = Path(audmodel.load(uid.replace("2.0.0", "1.0.0")))
    second = Path(audmodel.load(uid))
    for name in FILES:
        assert (second / name).stat().st_nlink == 1
    for path in first.rglob("*.*"):
        path.write_bytes(b"changed")
    assert read_folder(second) == CHANGED


@pytest.mark.parametrize("value", ["0", "off", "False"])
def test_reuse_is_switched_off(
    uid: str, value: str, fetched: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDMODEL_REUSE", value)
    fetched.clear()
    assert read_folder(audmodel.load(uid)) == CHANGED
    assert sum(fetched) > 33 * MIB


# All functions ---------------------------------------------------------------

SOME = ["model.safetensors", "log/"]


def load(uid: str) -> None:
    assert read_folder(audmodel.load(uid)) == CHANGED


def load_some(uid: str) -> None:
    some = {name: CHANGED[name] for name in CHANGED if name != "a.bin"}
    assert read_folder(audmodel.load(uid, files=SOME)) == some


def load_list(uid: str) -> None:
    assert read_folder(audmodel.load([uid], num_workers=4)[0]) == CHANGED


def load_after_some(uid: str) -> None:
    audmodel.load(uid, files=SOME)
    load(uid)


def stream(uid: str) -> None:
    paths = list(audmodel.stream(uid, num_workers=2))
    assert [Path(path).read_bytes() for path in paths] == [
        CHANGED[name] for name in sorted(CHANGED)
    ]


def read(uid: str) -> None:
    for name in CHANGED:
        with audmodel.open(uid, name, num_workers=2) as file:
            assert file.read() == CHANGED[name]


def repair(uid: str) -> None:
    for path in Path(audmodel.load(uid)).rglob("*.*"):
        path.write_bytes(b"wrong")
    assert audmodel.verify(uid, repair=True).ok
    assert audmodel.verify(uid).damaged == []


@pytest.mark.sample(7)
@pytest.mark.parametrize(
    "function", [load, load_some, load_list, load_after_some, stream, read, repair]
)
@pytest.mark.parametrize("source", ["whole", "some"])
def test_all_functions(
    published: Publish,
    function: Callable[[str], None],
    source: str,
    fetched: list[int],
) -> None:
    audmodel.load(
        published("1.0.0", FILES), files=None if source == "whole" else list(FILES)
    )
    uid = published("2.0.0", CHANGED)
    fetched.clear()
    function(uid)
    # The tensor that changed, once more after it was damaged
    assert fetched == [MIB] * (2 if function is repair else 1)


@pytest.mark.parametrize("num_workers", [1, 4])
def test_other_model_is_removed_while_a_file_is_read(
    uid: str, num_workers: int, fetched: list[int]
) -> None:
    with audmodel.open(uid, "a.bin", num_workers=num_workers) as file:
        fetched.clear()
        content = file.read(100)
        assert fetched == []
        audmodel.remove_cached(uid.replace("2.0.0", "1.0.0"))
        content += file.read()
    assert content == CHANGED["a.bin"]
    assert sum(fetched) > 4 * MIB


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0"])
def test_model_of_another_name(
    published: Publish, version: str, fetched: list[int]
) -> None:
    audmodel.load(published("1.0.0", FILES))
    uid = published(version, CHANGED, name="another", params={"x": 1})
    fetched.clear()
    assert read_folder(audmodel.load(uid)) == CHANGED
    assert fetched == [MIB]


# What is told ----------------------------------------------------------------


def test_plan(uid: str) -> None:
    plan = audmodel.plan_load(uid)
    size = sum(map(len, CHANGED.values()))
    assert (plan.size, plan.requests, plan.exact) == (size, 2, True)
    assert plan.bytes == MIB + TAIL
    assert plan.copied == plan.size - MIB
    some = audmodel.plan_load(uid, files="a.bin")
    assert (some.size, some.bytes, some.copied) == (9 * MIB, TAIL, 9 * MIB)


def test_plan_when_the_other_model_was_damaged(uid: str, fetched: list[int]) -> None:
    root = Path(audmodel.load(uid.replace("2.0.0", "1.0.0")))
    for name in ("a.bin", "log/3.txt"):
        with (root / name).open("r+b") as file:
            file.write(b"damaged")
    plan = audmodel.plan_load(uid)
    assert plan.bytes > 4 * MIB + TAIL
    fetched.clear()
    audmodel.load(uid)
    assert sum(fetched) + TAIL == plan.bytes


def test_log(uid: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "audmodel")
    plan = audmodel.plan_load(uid)
    audmodel.load(uid)
    assert (
        f"{plan.size - plan.copied} bytes of them fetched as {plan.bytes} bytes of "
        f"the archive, {plan.copied} bytes copied from other models, by 1 worker"
    ) in caplog.text


def test_progress(uid: str) -> None:
    states: list[Progress] = []
    plan = audmodel.plan_load(uid)
    audmodel.load(uid, num_workers=2, progress=states.append)
    last = states[-1]
    assert last.done == last.total
    assert last.copied > 32 * MIB > 2 * MIB > last.transferred
    assert last.transferred == pytest.approx(plan.bytes - TAIL, abs=4096)


# What it costs ---------------------------------------------------------------


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Models whose directories were looked at."""
    models: list[str] = []
    read_if = index.read_if

    def remember(entry: CacheEntry, digests: Any) -> Any:
        models.append(str(entry.model))
        return read_if(entry, digests)

    monkeypatch.setattr(index, "read_if", remember)
    return models


def strangers(uid: str, count: int) -> None:
    """Put models into the cache that have other parts than all others."""
    root = Path(audmodel.default_cache_root())
    directory = root.joinpath(uid.split("-")[0], ".1.0.0+index").read_bytes()
    for number in range(count):
        folder = root / f"{number:08x}"
        folder.mkdir()
        (folder / ".1.0.0+index").write_bytes(directory)


@pytest.mark.parametrize("others", [0, 20])
def test_first_load_sends_the_same_requests(
    published: Publish,
    others: int,
    fetched: list[int],
    looked_at: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = published("1.0.0", {"a": b"a"}, name="small")
    if others:
        audmodel.load(small)
        strangers(small, others)
    uid = published("1.0.0", FILES)
    fetched.clear()
    audmodel.load(uid, num_workers=1)
    requests = fetched.copy()
    assert len(looked_at) == (others and others + 1)
    audmodel.remove_cached(uid)
    fetched.clear()
    monkeypatch.setenv("AUDMODEL_REUSE", "0")
    audmodel.load(uid, num_workers=1)
    assert fetched == requests


def test_few_models_are_looked_at_for_few_bytes(
    published: Publish, looked_at: list[str]
) -> None:
    small = published("1.0.0", {"a": b"a"}, name="small")
    audmodel.load(small)
    strangers(small, 20)
    audmodel.load(published("1.0.0", {"a": noise(200_000)}, name="tail"))
    assert looked_at == []
    audmodel.load(published("1.0.0", {"a": noise(1_500_000)}))
    assert len(looked_at) == 9
    looked_at.clear()
    # All but some bytes are in the other version
    audmodel.load(published("2.0.0", {"a": noise(1_500_000), "b": noise(500_000, 1)}))
    assert len(looked_at) == 9


def test_large_directories_are_not_looked_at_for_few_bytes(
    published: Publish, looked_at: list[str]
) -> None:
    files = {f"{n:04}": b"%d" % n for n in range(2000)} | {"a": noise(MIB)}
    audmodel.load(published("1.0.0", files))
    audmodel.load(published("2.0.0", files))
    assert looked_at == []


def test_search_ends_when_all_is_found(
    published: Publish, looked_at: list[str]
) -> None:
    audmodel.load(published("1.0.0", FILES))
    audmodel.load(published("2.0.0", FILES))
    audmodel.load(published("1.0.0", FILES, name="another"))
    looked_at.clear()
    uid = published("3.0.0", FILES)
    audmodel.load(uid)
    assert looked_at == [uid.replace("3.0.0", "2.0.0")]
