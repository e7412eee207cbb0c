"""What opening a file and reading some of it moves over the network."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import json
from pathlib import Path
import random
import threading

import pytest

import audmodel
from audmodel.core.backend.reader import TAIL
from audmodel.errors import ArchiveError
from audmodel.errors import RepositoryError
from audmodel.fs import ModelFileSystem
from tests.archive.tools import MIB
from tests.archive.tools import flip
from tests.archive.tools import worker_threads
from tests.backends.proxy import Forward
from tests.backends.proxy import Proxy
from tests.backends.proxy import Request
from tests.backends.proxy import Response
from tests.backends.proxy import break_before


PART = 4 * MIB


@contextlib.contextmanager
def counting(proxy: Proxy) -> Iterator[list[int]]:
    """Count bytes of bodies that the server sends."""
    sent: list[int] = []
    lock = threading.Lock()

    def count(_: Request, forward: Forward) -> Response:
        response = forward()
        with lock:
            sent.append(len(response.body))
        return response

    proxy.fault = count
    yield sent
    proxy.fault = None


TENSORS = 40


def write_safetensors(path: Path) -> None:
    """File of tensors with 1 MiB each."""
    header = {
        f"layer.{n}": {
            "dtype": "F32",
            "shape": [512, 512],
            "data_offsets": [n * MIB, (n + 1) * MIB],
        }
        for n in range(TENSORS)
    }
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for number in range(TENSORS):
            file.write(random.Random(number).randbytes(MIB))


@pytest.fixture
def uid(counted: Proxy, tmp_path: Path) -> str:
    root = tmp_path / "model"
    root.mkdir()
    write_safetensors(root / "model.safetensors")
    return audmodel.publish(str(root), "torch", {}, "1.0.0")


@pytest.mark.parametrize("num_workers", [1, 4])
def test_tensor_in_the_middle(counted: Proxy, uid: str, num_workers: int) -> None:
    with (
        counting(counted) as sent,
        audmodel.open(uid, "model.safetensors", num_workers=num_workers) as file,
    ):
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        start, stop = header["layer.21"]["data_offsets"]
        file.seek(8 + length + start)
        content = file.read(stop - start)
        assert hash(content) == hash(random.Random(21).randbytes(MIB))
    # Part with the header, part with the tensor, and the end of the archive
    assert sum(sent) < 3 * PART
    assert sum(sent) < 2 * PART + TAIL + 10_000
    assert len(sent) == 4


def test_ranges_of_one_file_are_fetched_in_parallel(counted: Proxy, uid: str) -> None:
    starts = [n * 10 * MIB + 2 * MIB + MIB // 2 for n in range(4)]
    meeting = threading.Barrier(4, timeout=20)
    fetched = []

    def meet(_: Request, forward: Forward) -> Response:
        response = forward()
        if len(response.body) >= MIB:
            meeting.wait()
            fetched.append(len(response.body))
        return response

    counted.fault = meet
    read = ModelFileSystem(num_workers=4).cat_ranges(
        [f"{uid}/model.safetensors"] * 4,
        list(starts),
        [start + 1000 for start in starts],
        on_error="raise",
    )
    with audmodel.open(uid, "model.safetensors") as file:
        counted.fault = None
        for start, content in zip(starts, read):
            file.seek(start)
            assert file.read(1000) == content
    assert len(fetched) == 4
    assert worker_threads() == []


@pytest.mark.thorough
def test_broken_connections(counted: Proxy, uid: str, hasty: None) -> None:
    with audmodel.open(uid, "model.safetensors", num_workers=2) as file:
        content = file.read(8)
        file.seek(20 * MIB)

        def cut(_: Request, forward: Forward) -> Response:
            response = forward()
            counted.fault = None
            response.cut_after = len(response.body) // 2
            return response

        counted.fault = cut
        assert len(file.read(9 * MIB)) == 9 * MIB
        counted.fault = break_before
        file.seek(0)
        assert file.read(8) == content
        file.seek(36 * MIB)
        with pytest.raises(RepositoryError):
            file.read(1)
        counted.fault = None
        # How much the buffer has thrown away is not known
        with pytest.raises(OSError, match="Seek to a position"):
            file.read(1)
        file.seek(36 * MIB)
        assert len(file.read()) > 4 * MIB
    assert worker_threads() == []


def test_part_that_is_damaged_is_fetched_five_times(counted: Proxy, uid: str) -> None:
    with audmodel.open(uid, "model.safetensors") as file:
        large = []

        def spoil(request: Request, forward: Forward) -> Response:
            response = forward()
            if len(response.body) >= MIB:
                large.append(request.path)
                response.body = flip(response.body, 1000)
            return response

        counted.fault = spoil
        file.seek(20 * MIB)
        with pytest.raises(ArchiveError, match=r"part \d+ of the file 'model\.safe"):
            file.read(1)
        assert len(large) == 5
        counted.fault = None
        file.seek(20 * MIB)
        assert len(file.read(1)) == 1


@pytest.mark.thorough
def test_connection_breaks_while_streaming(
    counted: Proxy, uid: str, hasty: None
) -> None:
    paths = audmodel.stream(uid, num_workers=2)

    def break_large(request: Request, forward: Forward) -> Response | None:
        response = forward()
        return None if len(response.body) > MIB else response

    counted.fault = break_large
    with pytest.raises(RepositoryError):
        next(paths)
    assert worker_threads() == []
    counted.fault = None
    assert len(list(audmodel.stream(uid, timeout=0))) == 1
