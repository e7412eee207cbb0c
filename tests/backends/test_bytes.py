"""What moves over the wire, counted between client and server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import random
from typing import Any

import pytest

import audmodel
from audmodel.core import disk
from audmodel.core.backend.http import ranges
from audmodel.core.backend.reader import TAIL
from audmodel.core.cache import marker
from tests.backends.proxy import Proxy
from tests.backends.proxy import Request
from tests.conftest import RELEASE
from tests.processes import released as released


MIB = 1024 * 1024
SIZE = 32 * MIB


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    (root / "config").mkdir(parents=True)
    pattern = random.Random(5)
    for number in range(3):
        (root / f"weights-{number}").write_bytes(pattern.randbytes(SIZE // 3))
    (root / "tokenizer").write_bytes(pattern.randbytes(MIB))
    for number in range(300):
        (root / "config" / f"{number}.yaml").write_bytes(pattern.randbytes(200))
    return root


@pytest.fixture
def moved(proxy: Proxy) -> Callable[[], tuple[int, int]]:
    """Bytes and requests of archives since the last call."""
    seen: list[int] = []

    def count(request: Request, forward: Any) -> Any:
        response = forward()
        if ".zip" in request.path:
            seen.append(len(response.body) + len(request.body))
        return response

    proxy.fault = count

    def take() -> tuple[int, int]:
        result = sum(seen), len(seen)
        seen.clear()
        return result

    return take


@pytest.fixture
def repository(proxy: Proxy, bucket: str, keys: None, cache: Path) -> Any:
    repository = audmodel.Repository(bucket, proxy.url, "s3")
    audmodel.config.REPOSITORIES = [repository]
    return repository


@pytest.fixture(params=["2.0", RELEASE])
def uid(
    request: pytest.FixtureRequest,
    repository: audmodel.Repository,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """A model in an archive of either release."""
    if request.param == "2.0":
        return audmodel.publish(str(folder), "torch", {}, "1.0.0")
    # The release makes the archive in a folder, from where it is copied
    released = request.getfixturevalue("released")
    host = folder.parent / "host"
    (host / "models").mkdir(parents=True)
    local = audmodel.Repository("models", str(host), "file-system")
    audmodel.config.REPOSITORIES = [local]
    code = """
        return audmodel.publish(
            args["root"], "torch", {}, "1.0.0",
            repository=audmodel.config.REPOSITORIES[0],
        )
    """
    uid = str(released.run(code, root=str(folder)))
    audmodel.config.REPOSITORIES = [repository]
    with local.connect() as source, repository.connect() as target:
        for path in source.list_objects("/"):
            with source.open_object(path) as reader:
                assert reader is not None
                target.write_object(path, [bytes(reader.read(0, reader.size))])
    return uid


@pytest.mark.sample(1)
def test_one_file_of_a_large_model(
    uid: str, moved: Callable[[], tuple[int, int]]
) -> None:
    moved()
    planned = audmodel.plan_load(uid, files="tokenizer")
    # No more than the end of the archive
    assert moved() == (TAIL, 1)
    audmodel.load(uid, files="tokenizer", num_workers=4)
    count, requests = moved()
    assert (planned.bytes, planned.requests) == (count, requests)
    assert count < 2 * MIB
    assert audmodel.plan_load(uid, files="tokenizer").bytes == 0


@pytest.mark.sample(2)
@pytest.mark.parametrize("num_workers", [1, 4])
def test_plan_is_what_happens(
    uid: str, num_workers: int, moved: Callable[[], tuple[int, int]]
) -> None:
    audmodel.load(uid, files=["tokenizer", "weights-1"])
    planned = audmodel.plan_load(uid, num_workers=num_workers)
    assert planned.files == 302
    moved()
    audmodel.load(uid, num_workers=num_workers)
    assert (planned.bytes, planned.requests) == moved()
    assert planned.bytes < SIZE - SIZE // 3 + MIB // 2


@pytest.mark.thorough
def test_plan_goes_on_from_what_was_interrupted(
    repository: audmodel.Repository,
    folder: Path,
    moved: Callable[[], tuple[int, int]],
) -> None:
    uid = audmodel.publish(str(folder), "torch", {}, "1.0.0")
    whole = audmodel.plan_load(uid)
    fetch = ranges._Run.fetch
    calls = 0

    def stop(self: ranges._Run, offset: int, view: memoryview) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        fetch(self, offset, view)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges._Run, "fetch", stop)
        with pytest.raises(KeyboardInterrupt):
            audmodel.load(uid)
    planned = audmodel.plan_load(uid)
    # Parts that were missing may have right ones between them
    assert planned.bytes < whole.bytes
    moved()
    audmodel.load(uid)
    assert (planned.bytes, planned.requests) == moved()


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["wrong", "folder", "link", "second name", "mode"])
def test_plan_with_what_does_not_belong_there(
    repository: audmodel.Repository,
    folder: Path,
    moved: Callable[[], tuple[int, int]],
    kind: str,
) -> None:
    """Left by an earlier load, or by somebody else."""
    uid = audmodel.publish(str(folder), "torch", {}, "1.0.0")
    elsewhere = folder / "weights-0"
    short, version = uid.split("-")
    parent = Path(audmodel.default_cache_root(), short)
    for place in (f".{version}~0123456789abcdef", f".{version}+files"):
        left = parent / place
        left.mkdir(parents=True)
        path = left / "weights-0"
        if kind == "folder":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(elsewhere)
        else:
            path.write_bytes(elsewhere.read_bytes())
        if kind == "wrong":
            with path.open("r+b") as file:
                file.write(b"wrong")
        elif kind == "second name":
            path.with_name("weights-1").hardlink_to(path)
        elif kind == "mode":
            path.chmod(0o444)
    planned = audmodel.plan_load(uid)
    moved()
    audmodel.load(uid)
    if kind == "mode":
        # A file of somebody else is copied, and looked at once more
        assert not planned.exact
    else:
        assert planned.exact
        assert (planned.bytes, planned.requests) == moved()


@pytest.mark.thorough
def test_plan_after_a_power_failure(
    uid: str, moved: Callable[[], tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(audmodel.load(uid))
    with (root / "weights-0").open("r+b") as file:
        file.write(b"lost")
    monkeypatch.setattr(disk, "boot_id", lambda: "another")
    monkeypatch.setattr(marker, "_verified", set())
    planned = audmodel.plan_load(uid)
    assert not planned.exact
    moved()
    audmodel.load(uid)
    assert (planned.bytes, planned.requests) == moved()
    assert planned.bytes < SIZE // 2


@pytest.mark.thorough
def test_many_small_files_at_the_end(
    repository: audmodel.Repository, tmp_path: Path, moved: Callable[[], Any]
) -> None:
    """The directory is larger than what comes with opening the archive."""
    root = tmp_path / "many"
    root.mkdir()
    for number in range(4000):
        (root / f"a-rather-long-name-of-a-file-{number}").write_bytes(b"")
    uid = audmodel.publish(str(root), "torch", {}, "1.0.0")
    planned = audmodel.plan_load(uid)
    moved()
    audmodel.load(uid)
    assert (planned.bytes, planned.requests) == moved()
    assert planned.bytes > 2 * TAIL


@pytest.mark.parametrize("size", [100_000, 20 * MIB])
def test_plan_of_publishing(
    repository: audmodel.Repository, tmp_path: Path, proxy: Proxy, size: int
) -> None:
    root = tmp_path / "model"
    root.mkdir()
    (root / "weights").write_bytes(random.Random(6).randbytes(size))
    arguments: Any = (str(root), "torch", {}, "1.0.0")
    planned = audmodel.plan_publish(*arguments)
    assert not [r for r in proxy.requests if r.method != "GET"]
    # What every process finds out once of a server is no part of it
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_bytes(b"x")
    audmodel.publish(str(other), "other", {}, "1.0.0")
    before = len(proxy.requests)
    assert audmodel.publish(*arguments) == planned.uid
    sent = proxy.requests[before:]
    total = sum(len(r.body) for r in sent if ".zip" in r.path)
    assert (planned.files, planned.size, planned.exact) == (1, size, False)
    assert abs(total - planned.bytes) < 5000
    assert abs(len(sent) - planned.requests) <= 2
    with pytest.raises(audmodel.errors.ModelExistsError):
        audmodel.plan_publish(*arguments)


@pytest.mark.parametrize("num_workers", [1, 4])
def test_parts_of_another_version_are_not_fetched(
    repository: audmodel.Repository,
    folder: Path,
    num_workers: int,
    moved: Callable[[], tuple[int, int]],
) -> None:
    audmodel.load(audmodel.publish(str(folder), "torch", {}, "1.0.0"))
    with (folder / "weights-1").open("r+b") as file:
        file.seek(5 * MIB)
        file.write(bytes(SIZE // 100))
    uid = audmodel.publish(str(folder), "torch", {}, "2.0.0")
    planned = audmodel.plan_load(uid, num_workers=num_workers)
    moved()
    audmodel.load(uid, num_workers=num_workers)
    count, requests = moved()
    # The part that changed, and the end of the archive
    assert (planned.bytes, planned.requests) == (count, requests)
    assert (count, requests) == (4 * MIB + TAIL, 2)
    assert planned.copied == planned.size - 4 * MIB
