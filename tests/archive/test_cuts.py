"""Large files are cut where a tensor begins, others every few bytes."""

from __future__ import annotations

from collections.abc import Callable
import io
import itertools
import json
from pathlib import Path
import random
import struct
import zipfile

import hypothesis
from hypothesis import strategies as st
import pytest

from audmodel.core.archive.cuts import Cuts
from audmodel.core.operations import folder
from tests.archive.tools import MemorySource
from tests.archive.tools import extract
from tests.archive.tools import make_folder
from tests.archive.tools import noise
from tests.archive.tools import parse
from tests.archive.tools import read_folder
from tests.archive.tools import write


PART = 4000
MIB = 1 << 20


def cuts(root: Path, name: str = "file", part_size: int = PART) -> list[int]:
    """Positions at which a file is cut."""
    files = folder.scan(str(root)).files
    [file] = [file for file in files if file.name == name]
    parts = Cuts(files, part_size).parts(file)
    assert parts[0][0] == 0
    assert parts[-1][1] == file.size
    assert all(0 < stop - start <= part_size for start, stop in parts)
    assert all(first[1] == second[0] for first, second in itertools.pairwise(parts))
    return [start for start, _ in parts[1:]]


def fixed(size: int) -> list[int]:
    return list(range(PART, size, PART))


# Files of each format: tensors of some lengths --------------------------------


def safetensors(*tensors: bytes, pad: int = 0) -> tuple[bytes, list[int]]:
    """Content of a file, and where its tensors begin."""
    places = list(itertools.accumulate(map(len, tensors), initial=0))
    header = {
        f"tensor {number}": {
            "dtype": "U8",
            "shape": [stop - start],
            "data_offsets": [start, stop],
        }
        for number, (start, stop) in enumerate(itertools.pairwise(places))
    }
    text = json.dumps({"__metadata__": {"pad": "x" * pad}} | header).encode()
    start = 8 + len(text)
    content = struct.pack("<Q", len(text)) + text + b"".join(tensors)
    return content, [start + place for place in places[:-1]]


def gguf(*tensors: bytes, pad: int = 0) -> tuple[bytes, list[int]]:
    def string(text: bytes) -> bytes:
        return struct.pack("<Q", len(text)) + text

    head = b"GGUF" + struct.pack("<LQQ", 3, len(tensors), 4)
    head += string(b"general.alignment") + struct.pack("<LL", 4, 64)
    head += string(b"general.name") + struct.pack("<L", 8) + string(b"x" * pad)
    tokens = b"".join(string(b"token %d" % n) for n in range(300))
    head += string(b"tokens") + struct.pack("<LLQ", 9, 8, 300) + tokens
    head += string(b"scores") + struct.pack("<LLQ", 9, 6, 2) + bytes(8)
    data = b""
    offsets = []
    for number, tensor in enumerate(tensors):
        data += bytes(-len(data) % 64)
        offsets.append(len(data))
        head += string(b"tensor %d" % number)
        head += struct.pack("<LQLQ", 1, len(tensor), 0, len(data))
        data += tensor
    head += bytes(-len(head) % 64)
    return head + data, [len(head) + offset for offset in offsets]


def zipped(
    *tensors: bytes, pad: int = 0, alignment: int = 0
) -> tuple[bytes, list[int]]:
    stream = io.BytesIO()
    places = []
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("data.pkl", b"x" * pad)
        for number, tensor in enumerate(tensors):
            info = zipfile.ZipInfo(f"data/{number}")
            place = stream.tell() + 30 + len(info.filename)
            if alignment:
                padding = -(place + 4) % alignment
                info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
            file.writestr(info, tensor)
            places.append(place + len(info.extra))
    return stream.getvalue(), places


def torch(*tensors: bytes, pad: int = 0) -> tuple[bytes, list[int]]:
    return zipped(*tensors, pad=pad, alignment=64)


def field(number: int, content: bytes | int) -> bytes:
    def varint(value: int) -> bytes:
        data = b""
        while value > 127:
            data += bytes([value & 127 | 128])
            value >>= 7
        return data + bytes([value])

    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def onnx(*tensors: bytes, pad: int = 0) -> tuple[bytes, list[int]]:
    graph = field(1, b"a node") + field(2, b"x" * pad)
    places = []
    for tensor in tensors:
        head = field(1, len(tensor)) + field(2, 1) + field(8, b"name")
        initializer = field(5, head + field(9, tensor))
        places.append(len(graph) + len(initializer) - len(tensor))
        graph += initializer
    graph += field(11, b"an input")
    content = field(1, 8) + field(7, graph) + field(8, b"opset")
    start = content.index(graph[:20])
    return content, [start + place for place in places]


FORMATS = {
    "file.safetensors": safetensors,
    "file.gguf": gguf,
    "file.npz": zipped,
    "file.pt": torch,
    "file.onnx": onnx,
}
Make = Callable[..., tuple[bytes, list[int]]]
formats = pytest.mark.parametrize(("name", "make"), FORMATS.items())


@formats
def test_large_tensors_begin_a_part(tmp_path: Path, name: str, make: Make) -> None:
    tensors = [noise(length, length) for length in (5000, 1000, 9000, 1001, 4000)]
    content, places = make(*tensors)
    make_folder(tmp_path, {name: content})
    found = cuts(tmp_path, name)
    assert set(places) <= set(found)
    for place, tensor in zip(places, tensors, strict=True):
        inside = [cut - place for cut in found if 0 < cut - place < len(tensor)]
        assert inside == fixed(len(tensor))


@formats
def test_small_tensors_share_a_part(tmp_path: Path, name: str, make: Make) -> None:
    content, places = make(*[noise(900, number) for number in range(40)])
    make_folder(tmp_path, {name: content})
    found = cuts(tmp_path, name)
    assert len(found) < 2 * len(content) / PART
    assert len(set(found) & set(places)) > 8


@formats
@hypothesis.given(
    lengths=st.lists(st.sampled_from([1, 500, 999, 1000, 1001, 4000, 4001]))
)
@hypothesis.example(lengths=[1000, 1] * 50)
@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
def test_number_of_parts_is_limited(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    make: Make,
    lengths: list[int],
) -> None:
    content, _ = make(*map(noise, lengths))
    root = make_folder(tmp_path_factory.mktemp("model"), {name: content})
    assert len(cuts(root, name)) <= 2 * len(content) / (PART / 4)


def test_tensors_beside_an_onnx_model(tmp_path: Path) -> None:
    places = [(0, 5000), (6000, 2000), (8192, 9000)]
    graph = b""
    for offset, length in places:
        entries = {"location": "weights.bin", "offset": offset, "length": length}
        external = [
            field(13, field(1, key.encode()) + field(2, str(value).encode()))
            for key, value in entries.items()
        ]
        graph += field(5, field(8, b"name") + b"".join(external) + field(14, 1))
    content = {
        "sub/z.onnx": field(7, graph),
        "sub/weights.bin": noise(20_000),
        "weights.bin": noise(20_000),
    }
    make_folder(tmp_path, content)
    assert {6000, 8192} <= set(cuts(tmp_path, "sub/weights.bin"))
    assert cuts(tmp_path, "weights.bin") == fixed(20_000)


# Files that are in doubt --------------------------------------------------------


@pytest.mark.parametrize("size", [1, PART, PART + 1, 10 * PART, 10 * PART + 1])
def test_other_files_are_cut_every_few_bytes(tmp_path: Path, size: int) -> None:
    make_folder(tmp_path, {"file": noise(size)})
    assert cuts(tmp_path) == fixed(size)


def broken() -> dict[str, bytes]:
    content, _ = safetensors(noise(9000), noise(9000))
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])

    def changed(offsets: object) -> bytes:
        header["tensor 1"]["data_offsets"] = offsets
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + length :]

    return {
        "beyond the end": changed([9000, 18_001]),
        "before the start": changed([-9000, 18_000]),
        "backwards": changed([18_000, 9000]),
        "overlapping": changed([8000, 18_000]),
        "text": changed(["9000", "18000"]),
        "broken numbers": changed([9000.0, 18_000.0]),
        "truth": changed([False, True]),
        "huge": changed([10**400, 10**401]),
        "infinite": changed([float("inf"), float("inf")]),
        "one": changed([9000]),
        "none": changed(None),
        "header that is no JSON": struct.pack("<Q", 9000) + b"{" + noise(20_000),
        "deep header": struct.pack("<Q", 60_000) + b'{"a":' * 12_000 + noise(20_000),
        "header beyond the end": struct.pack("<Q", 2**20) + b"{" + noise(20_000),
        "endless header": struct.pack("<Q", 2**63) + b"{" + noise(20_000),
        "zip of nothing": b"PK\3\4" + noise(20_000),
        "zip that is cut": zipped(noise(9000), noise(9000))[0][:-5],
        "gguf that is cut": gguf(noise(9000))[0][:2000] + noise(9000),
        "gguf of another version": b"GGUF\1\0\0\0" + noise(20_000),
        "gguf with 2⁶⁴ values": b"GGUF\3\0\0\0" + b"\xff" * 16 + noise(20_000),
    }


@pytest.mark.parametrize("name", broken())
def test_file_that_is_not_what_it_seems(tmp_path: Path, name: str) -> None:
    content = broken()[name]
    make_folder(tmp_path, {"file": content})
    assert cuts(tmp_path) == fixed(len(content))


@pytest.mark.parametrize(
    "content",
    [
        b"\x3a" + b"\xff" * 9,
        field(7, field(5, b"\x4a\xff\xff\xff\xff\x7f")),
        b"\x0b" * 5000,
        b"\x80" * 5000,
    ],
    ids=["length without end", "length beyond", "group", "number without end"],
)
def test_onnx_model_that_is_none(tmp_path: Path, content: bytes) -> None:
    content += noise(20_000)
    make_folder(tmp_path, {"a.onnx": content, "b": noise(9000)})
    assert cuts(tmp_path, "a.onnx") == fixed(len(content))
    assert cuts(tmp_path, "b") == fixed(9000)


def test_too_many_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, _ = safetensors(*[noise(2000, number) for number in range(11)])
    make_folder(tmp_path, {"file": content})
    monkeypatch.setattr("audmodel.core.archive.cuts._MAX_TENSORS", 11)
    assert cuts(tmp_path) != fixed(len(content))
    monkeypatch.setattr("audmodel.core.archive.cuts._MAX_TENSORS", 10)
    assert cuts(tmp_path) == fixed(len(content))


@formats
@hypothesis.given(seed=st.integers(0, 2**32))
@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
def test_any_damage_leaves_parts_of_a_whole(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Make, seed: int
) -> None:
    chance = random.Random(seed)
    content = bytearray(make(noise(5000, 1), noise(9000, 2), pad=50)[0])
    for _ in range(chance.randrange(1, 4)):
        content[chance.randrange(min(len(content), 900))] = chance.randrange(256)
    if chance.random() < 0.3:
        del content[chance.randrange(len(content)) :]
    root = make_folder(tmp_path_factory.mktemp("model"), {name: bytes(content)})
    if content:
        cuts(root, name)


# What it is for --------------------------------------------------------------------


def fetched(root: Path, name: str, *versions: bytes) -> int:
    """Bytes in parts of the second version that the first version does not have."""
    parts = []
    for content in versions:
        data = write(make_folder(root, {name: content}), part_size=PART)
        [member] = parse(data).members
        parts.append({part.digest: part.uncompressed_size for part in member.parts()})
    first, second = parts
    return sum(second[digest] for digest in set(second) - set(first))


@formats
def test_small_tensors_changed_between_large_ones(
    tmp_path: Path, name: str, make: Make
) -> None:
    def model(seed: int) -> bytes:
        pairs = [(noise(39_500, n), noise(30, seed + n)) for n in range(24)]
        return make(*itertools.chain(*pairs))[0]

    # Small tensors, and records of a few bytes for each tensor
    assert fetched(tmp_path, name, model(100), model(200)) < 24 * 30 + 48 * 240


@formats
def test_large_tensor_changed(tmp_path: Path, name: str, make: Make) -> None:
    tensors = [noise(2400, n) for n in range(10)]
    first, _ = make(*tensors)
    tensors[7] = noise(2400, 100)
    second, _ = make(*tensors)
    # The tensor, and records of a few bytes for each tensor
    assert fetched(tmp_path, name, first, second) < 2400 + 10 * 240


@formats
def test_header_grows(tmp_path: Path, name: str, make: Make) -> None:
    tensors = [noise(length, length) for length in (7000, 2000, 9000)]
    first, _ = make(*tensors)
    second, _ = make(*tensors, pad=777)
    others = len(second) - sum(map(len, tensors))
    assert fetched(tmp_path, name, first, second) <= others


def test_parts_of_an_archive_that_did_not_change_have_the_same_digests(
    tmp_path: Path,
) -> None:
    tensors = [noise(length * MIB, length) for length in (3, 9, 1, 5)]
    digests = []
    for number, pad in enumerate((0, 10_000)):
        content, _ = safetensors(*tensors, pad=pad)
        data = write(make_folder(tmp_path / str(number), {"model": content}))
        [member] = parse(data).members
        digests.append({part.digest: part.uncompressed_size for part in member.parts()})
        extract(MemorySource(data), tmp_path / f"{number} out", num_workers=3)
        assert read_folder(tmp_path / f"{number} out") == {"model": content}
    same = set(digests[0]) & set(digests[1])
    assert sum(digests[0][digest] for digest in same) >= 18 * MIB
