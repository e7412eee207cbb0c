"""No flipped bit becomes part of a model."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import random
import shutil

import pytest

import audmodel
from audmodel import errors
from audmodel.core.uid import ModelId
from tests.archive.tools import noise
from tests.backends import proxy as faults
from tests.backends.conftest import forget as forget
from tests.backends.conftest import hasty as hasty
from tests.backends.proxy import Forward
from tests.backends.proxy import Request
from tests.backends.proxy import Response
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.reliability.remote import Remote
from tests.reliability.remote import storage as storage


# Of each family of faults
pytestmark = pytest.mark.sample(1)


MIB = 1024 * 1024


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A model whose archive has 4 KiB."""
    root = tmp_path / "small"
    (root / "sub").mkdir(parents=True)
    (root / "weights").write_bytes(noise(3900))
    (root / "sub" / "text.txt").write_bytes(b"a text that shrinks " * 200)
    return root


def one(repository: audmodel.Repository, pattern: str) -> Path:
    [path] = Path(repository.host, repository.name).rglob(pattern)
    return path


def bits(
    data: bytes, torture: int, chance: random.Random, sample: int
) -> list[int] | range:
    total = range(8 * len(data))
    return total if torture else sorted(chance.sample(total, min(sample, len(total))))


@pytest.mark.parametrize("half", [0, 1])
def test_archive(
    half: int,
    repository: audmodel.Repository,
    small: Path,
    tmp_path: Path,
    torture: int,
    chance: random.Random,
    count: Callable[[str, int], None],
) -> None:
    """Whatever bit is flipped, nothing or the right files are loaded."""
    uid = publish(small, compression=9)
    short, version = uid.split("-")
    path = one(repository, "*.zip")
    data = path.read_bytes()
    assert 4096 <= len(data) < 4400
    expected = files(small)
    numbers = bits(data, torture, chance, 400)[half::2]
    refused = 0
    for bit in numbers:
        path.write_bytes(faults.flip(data, bit))
        cache = tmp_path / f"cache{bit}"
        try:
            root = audmodel.load(uid, cache_root=str(cache))
        except errors.ArchiveError as error:
            message = str(error)
            refused += 1
        else:
            assert files(root) == expected
            shutil.rmtree(cache)
            continue
        assert str(path) in message
        assert uid in message
        assert not list(cache.glob(f"*/{short}/{version}"))
        shutil.rmtree(cache)
    # Nobody looks at some fields of local headers, e.g. the time
    assert refused > 0.98 * len(numbers)
    count("flipped bits: archive of 4 KiB, detected", refused)
    count("flipped bits: archive of 4 KiB, without effect", len(numbers) - refused)


def test_large_archive(
    repository: audmodel.Repository,
    tmp_path: Path,
    torture: int,
    chance: random.Random,
    count: Callable[[str, int], None],
) -> None:
    root = tmp_path / "large"
    root.mkdir()
    size = 64 * MIB if torture else 4 * MIB
    (root / "weights").write_bytes(noise(size))
    (root / "others").write_bytes(noise(size // 8, seed=1))
    uid = publish(root)
    path = one(repository, "*.zip")
    total = path.stat().st_size
    flips = 500 * torture or 10
    with path.open("r+b") as file:
        for number in range(flips):
            position = chance.randrange(total)
            [byte] = os.pread(file.fileno(), 1, position)
            flipped = byte ^ (1 << chance.randrange(8))
            os.pwrite(file.fileno(), bytes([flipped]), position)
            # What was verified before is not fetched again
            cache = tmp_path / f"cache{number}"
            with pytest.raises(errors.ArchiveError, match=uid):
                audmodel.load(uid, cache_root=str(cache), num_workers=2)
            shutil.rmtree(cache)
            os.pwrite(file.fileno(), bytes([byte]), position)
    count("flipped bits: large archive, all detected", flips)
    loaded = audmodel.load(uid, cache_root=str(tmp_path / "cache"))
    assert files(loaded) == files(root)


def test_damage_at_rest_is_described(
    repository: audmodel.Repository, tmp_path: Path
) -> None:
    root = tmp_path / "model"
    root.mkdir()
    (root / "weights").write_bytes(noise(9 * MIB))
    uid = publish(root)
    path = one(repository, "*.zip")
    data = path.read_bytes()
    path.write_bytes(faults.flip(data, 8 * 5_000_000))
    with pytest.raises(errors.ArchiveError) as info:
        audmodel.load(uid, cache_root=str(tmp_path / "cache"), num_workers=2)
    message = str(info.value)
    assert "weights" in message
    assert str(path) in message
    numbers = [
        int(word) for word in message.replace(":", " ").split() if word.isdigit()
    ]
    # It says which bytes
    assert any(start <= 5_000_000 for start in numbers), message


@pytest.mark.parametrize("kind", ["header", "meta", "alias"])
def test_documents(
    repository: audmodel.Repository,
    small: Path,
    tmp_path: Path,
    torture: int,
    chance: random.Random,
    count: Callable[[str, int], None],
    kind: str,
) -> None:
    """A document on disk has no digest: what it says is used as data, or refused."""
    uid = publish(small, alias="best", meta={"a": "text", "b": [1, 2.5]})
    path = one(repository, f"*.{kind}.yaml")
    data = path.read_bytes()
    numbers = bits(data, torture, chance, 300)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for bit in numbers:
        path.write_bytes(faults.flip(data, bit))
        cache = str(tmp_path / "caches" / str(bit))
        try:
            root = audmodel.load("best" if kind == "alias" else uid, cache_root=cache)
        except errors.AudmodelError:
            pass
        else:
            # No other model, and nothing else in it
            assert files(root) == files(small)
        try:
            assert isinstance(audmodel.meta(uid, cache_root=cache), dict)
        except errors.AudmodelError:
            pass
    path.write_bytes(data)
    after = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    strange = {p for p in after if after[p] != before.get(p)}
    assert all(p.is_relative_to(tmp_path / "caches") for p in strange)
    count(f"flipped bits: {kind}, refused or used as data", len(numbers))


# In flight ---------------------------------------------------------------------


@pytest.mark.thorough
def test_documents_in_flight(
    storage: Remote,
    chance: random.Random,
    torture: int,
    count: Callable[[str, int], None],
) -> None:
    """A document is fetched once more, and right."""
    uid = publish(storage.model(1000), alias="best", meta={"a": "text"})
    calls: list[Callable[[], object]] = [
        lambda: audmodel.header(uid, cache_root=storage.cache()),
        lambda: audmodel.meta(uid, cache_root=storage.cache()),
        lambda: audmodel.resolve_alias("best"),
    ]
    rounds = 5 + 250 * torture
    for call in calls:
        expected = call()
        for _ in range(rounds):
            bit = chance.getrandbits(40)

            def flip(_: Request, forward: Forward, bit: int = bit) -> Response:
                response = forward()
                response.body = faults.flip(response.body, bit)
                return response

            with storage.fault(faults.first(1, flip)) as requests:
                assert call() == expected
            assert len(requests) <= 4
    count("flipped bits: documents in flight, healed", rounds * len(calls))


@pytest.mark.thorough
def test_parts_in_flight(
    storage: Remote,
    chance: random.Random,
    torture: int,
    count: Callable[[str, int], None],
) -> None:
    """Only the part that was damaged is fetched again."""
    root = storage.model(6 * MIB)
    uid = publish(root)
    size = 6 * MIB
    rounds = 4 + 100 * torture
    for _ in range(rounds):
        ranges: list[int] = []
        bit = chance.getrandbits(40)
        victim = chance.randrange(3)

        def fault(
            request: Request,
            forward: Forward,
            ranges: list[int] = ranges,
            bit: int = bit,
            victim: int = victim,
        ) -> Response:
            response = forward()
            if "range" in request.headers:
                if len(ranges) == victim:
                    response.body = faults.flip(response.body, bit)
                ranges.append(len(response.body))
            return response

        with storage.fault(fault):
            loaded = audmodel.load(uid, cache_root=storage.cache())
        assert files(loaded) == files(root)
        # Nothing else is fetched twice
        assert sum(ranges) <= size + 2 * max(ranges) + 300_000
        assert sum(ranges) < 2 * size
    count("flipped bits: parts in flight, healed", rounds)


# Mix and match -------------------------------------------------------------------


def test_objects_of_two_models(repository: audmodel.Repository, tmp_path: Path) -> None:
    """Headers and archives belong together."""
    uids, roots = [], []
    for number in range(2):
        root = tmp_path / f"model{number}"
        root.mkdir()
        (root / "weights").write_bytes(noise(5000, seed=number))
        roots.append(root)
        uids.append(publish(root, version=f"{number}.0.0", name="torch"))
    host = Path(repository.host, repository.name)
    first, second = (ModelId(*uid.split("-")) for uid in uids)
    archives = [next(host.rglob(f"{model}.zip")) for model in (first, second)]
    headers = [next(host.rglob(f"{model}.header.yaml")) for model in (first, second)]
    archive, header = archives[0].read_bytes(), headers[0].read_bytes()

    archives[0].write_bytes(archives[1].read_bytes())
    with pytest.raises(errors.ArchiveMismatchError, match=uids[0]):
        audmodel.load(uids[0])
    archives[0].write_bytes(archive)

    for other in (
        headers[1].read_bytes(),
        headers[1].read_bytes().replace(b"1.0.0", b"0.0.0"),
    ):
        headers[0].write_bytes(other)
        with pytest.raises(errors.AudmodelError):
            audmodel.load(uids[0])
    headers[0].write_bytes(header)
    assert files(audmodel.load(uids[0])) == files(roots[0])
