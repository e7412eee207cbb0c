"""Large files, and files of many parts, work like others, and take little memory.

Each call is made by a process of its own, which tells its peak memory.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import json
import os
from pathlib import Path
import random
import struct
from typing import Any

import pytest

import audmodel
from tests.behaviour.backends import BACKENDS
from tests.processes import Interpreter


MB = 1_000_000
# What documentation promises for four workers
LIMIT = 250 * MB
WORKERS = 4
KIB = 1024
MIB = KIB * KIB
TIMEOUT = 3000

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(TIMEOUT)]

CALL = """
def call():
    uid, root = args["uid"], args["root"]
{code}
value = call()
with open("/proc/self/status") as file:
    [peak] = [int(line.split()[1]) for line in file if "VmHWM" in line]
return [value, peak * 1024]
"""
PUBLISH = """
    import functools
    from audmodel.core.archive.writer import ArchiveWriter
    from audmodel.core.operations import publishing
    if args["part_size"]:
        small = functools.partial(ArchiveWriter, part_size=args["part_size"])
        publishing.ArchiveWriter = small
    version = args["version"]
    workers = args["workers"]
    return audmodel.publish(root, "torch", {}, version, num_workers=workers)
"""
LOAD = """
    return audmodel.load(uid, num_workers=args["workers"])
"""
PLAN = """
    return audmodel.plan_load(uid, num_workers=args["workers"]).bytes
"""
READ = """
    ranges = []
    with audmodel.open(uid, args["file"], num_workers=args["workers"]) as file:
        for offset in args["offsets"]:
            file.seek(offset)
            ranges.append(file.read(args["length"]).hex())
        file.seek(0)
        size = 0
        while data := file.read(1 << 20):
            size += len(data)
            if size >= args["most"]:
                break
    return ranges
"""
VERIFY = """
    result = audmodel.verify(uid, num_workers=args["workers"], **args["options"])
    return [[file.path, file.size] for file in result.damaged]
"""


class Caller:
    """Calls functions in processes of their own.

    Args:
        python: starts the processes

    """

    def __init__(self, python: Interpreter) -> None:
        self._python = python
        self.part_size = 0

    def __call__(self, what: str, code: str, uid: str = "", **arguments: Any) -> Any:
        process = self._python.start(
            CALL.format(code=code),
            uid=uid,
            workers=WORKERS,
            part_size=self.part_size,
            **{"root": "", **arguments},
        )
        value, peak = process.result(TIMEOUT)
        # Shown with -rP
        print(f"{what}: {peak / MB:.0f} MB")  # noqa: T201
        assert peak < LIMIT, what
        return value


@pytest.fixture
def call(python: Interpreter, unmeasured: None) -> Caller:
    return Caller(python)


@pytest.fixture
def s3(request: pytest.FixtureRequest, cache: Path) -> Iterator[audmodel.Repository]:
    """An empty repository on a server on this machine, the only one configured."""
    with BACKENDS["s3"](request) as repository:
        audmodel.config.REPOSITORIES = [repository]
        yield repository


def use_model(call: Caller, root: Path, change: Callable[[Path], None]) -> str:
    """Publish, load, verify and repair a model, and load and open a new version.

    Args:
        call: calls functions
        root: folder of the model, which has one file
        change: changes a bit of the file, and not its size

    Returns:
        ID of the new version

    """
    [path] = root.iterdir()
    name, size = path.name, path.stat().st_size
    uid = call("publish", PUBLISH, root=str(root), version="1.0.0")
    place = Path(call("load", LOAD, uid)) / name
    check_same(place, path)
    assert call("verify", VERIFY, uid, options={}) == []

    # Two places of the file in the cache
    damage(place, 0)
    damage(place, size // 2)
    [(damaged, count)] = call("find damage", VERIFY, uid, options={})
    assert damaged == name
    assert 0 < count < size
    call("repair", VERIFY, uid, options={"repair": True})
    check_same(place, path)

    change(path)
    second: str = call("publish again", PUBLISH, root=str(root), version="2.0.0")
    offsets = [0, size // 3, size - 1000]
    found = call(
        "open",
        READ,
        second,
        file=name,
        offsets=offsets,
        length=1000,
        most=min(size, 500 * MB),
    )
    assert found == [read(path, offset, 1000).hex() for offset in offsets]
    assert call("plan", PLAN, second) < size // 10
    loaded = call("load again", LOAD, second)
    check_same(Path(loaded) / name, path)
    return second


def check_same(first: Path, second: Path) -> None:
    """Compare two files without memory for them."""
    assert first.stat().st_size == second.stat().st_size
    with first.open("rb") as file, second.open("rb") as other:
        while data := file.read(4 * MIB):
            assert data == other.read(4 * MIB)


def read(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def damage(path: Path, offset: int) -> None:
    data = read(path, offset, 1)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes([data[0] ^ 1]))


# Many parts --------------------------------------------------------------------

TENSORS = 100_000
TENSOR = 4 * KIB


def many_tensors(path: Path) -> None:
    """Write a file of tensors, each of which is a part of its own."""
    header = {
        f"model.layers.{number:06}.weight": {
            "dtype": "F32",
            "shape": [TENSOR // 4],
            "data_offsets": [number * TENSOR, (number + 1) * TENSOR],
        }
        for number in range(TENSORS)
    }
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        chance = random.Random(0)
        for _ in range(TENSORS * TENSOR // MIB):
            file.write(chance.randbytes(MIB))
        file.write(chance.randbytes(TENSORS * TENSOR % MIB))


def test_file_of_many_parts(
    s3: audmodel.Repository, call: Caller, tmp_path: Path
) -> None:
    call.part_size = TENSOR
    root = tmp_path / "model"
    root.mkdir()
    many_tensors(root / "model.safetensors")

    def change(path: Path) -> None:
        damage(path, path.stat().st_size - TENSORS // 2 * TENSOR)

    use_model(call, root, change)


# Many bytes --------------------------------------------------------------------

# More than 4 GiB have other records in a ZIP file.
# A run with GIGABYTES=20 takes 55 GB of disk space, in the folder that TMPDIR names
GIGABYTES = float(os.environ.get("GIGABYTES", "4.5"))


def sparse(path: Path, size: int) -> None:
    """Write a file of which a quarter is noise, and the rest takes no disk space."""
    chance = random.Random(1)
    block = chance.randbytes(MIB)
    with path.open("wb") as file:
        for offset in range(0, size, 4 * MIB):
            file.seek(offset)
            file.write(offset.to_bytes(8) + block[8 : min(MIB, size - offset)])
        file.truncate(size)


def test_large_file(
    repository: audmodel.Repository, call: Caller, tmp_path: Path
) -> None:
    root = tmp_path / "model"
    root.mkdir()
    size = int(GIGABYTES * 1000 * MB)
    sparse(root / "weights.bin", size)
    uid = use_model(call, root, lambda path: damage(path, size - 5))
    assert call("verify remote", VERIFY, uid, options={"remote": True}) == []
