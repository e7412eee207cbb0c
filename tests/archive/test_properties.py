"""Whatever the files are, they come back; whatever the damage, nothing wrong does."""

from __future__ import annotations

import io
import os
from pathlib import Path
import random
import tempfile
import zipfile

from hypothesis import HealthCheck
from hypothesis import example
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from audmodel.core.archive import format
from audmodel.core.archive.names import check_name
from audmodel.errors import ArchiveError
from benchmarks import mutate
from tests.archive.tools import MemorySource
from tests.archive.tools import extract
from tests.archive.tools import flip
from tests.archive.tools import listing
from tests.archive.tools import make_folder
from tests.archive.tools import noise
from tests.archive.tools import parse
from tests.archive.tools import read_folder
from tests.archive.tools import text
from tests.archive.tools import write
from tests.archive.tools import write_old
from tests.archive.zips import UTF8
from tests.archive.zips import Item
from tests.archive.zips import build


quick = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# Trees ---------------------------------------------------------------------

names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"),
    min_size=1,
    max_size=12,
)
contents = st.one_of(
    st.binary(max_size=300),
    st.builds(noise, st.integers(0, 5000)),
    st.builds(text, st.integers(0, 5000)),
    st.builds(bytes, st.integers(0, 5000)),
)
trees = st.recursive(
    contents,
    lambda children: st.dictionaries(names, children, min_size=1, max_size=5),
    max_leaves=12,
).filter(lambda tree: isinstance(tree, dict))


def flat(tree: object, prefix: str = "") -> dict[str, bytes]:
    """Files of a tree, without those whose names are refused."""
    assert isinstance(tree, dict)
    files = {}
    for name, content in tree.items():
        try:
            check_name(prefix + name)
        except ArchiveError:
            continue
        if isinstance(content, bytes):
            files[prefix + name] = content
        else:
            files.update(flat(content, f"{prefix}{name}/"))
    return files


@quick
@given(
    tree=trees,
    part_size=st.integers(100, 6000),
    compression=st.integers(0, 9),
    num_workers=st.integers(1, 4),
    tail=st.integers(format.END_SIZE, 20_000),
)
def test_trees_come_back(
    tree: object, part_size: int, compression: int, num_workers: int, tail: int
) -> None:
    files = flat(tree)
    if not files:
        return
    with tempfile.TemporaryDirectory() as folder:
        root = make_folder(Path(folder, "model"), files)
        data = write(
            root, part_size=part_size, compression=compression, num_workers=num_workers
        )
        assert data == write(root, part_size=part_size, compression=compression)
        source = MemorySource(data, tail=tail)
        extract(source, Path(folder, "out"), num_workers=num_workers)
        assert read_folder(Path(folder, "out")) == files
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.testzip() is None
            assert {name: archive.read(name) for name in archive.namelist()} == files


@quick
@given(tree=trees, method=st.sampled_from([0, 8]), num_workers=st.integers(1, 3))
def test_trees_of_an_earlier_release_come_back(
    tree: object, method: int, num_workers: int
) -> None:
    files = flat(tree)
    with tempfile.TemporaryDirectory() as folder:
        source = MemorySource(write_old(files, method))
        extract(source, folder, num_workers=num_workers)
        assert read_folder(folder) == files


@quick
@given(
    length=st.integers(0, 200_000),
    part_size=st.integers(100, 70_000),
    cuts=st.lists(st.integers(0, 200_000), max_size=4),
    damaged=st.lists(st.integers(0, 199_999), max_size=4),
)
def test_whatever_is_left_is_completed(
    length: int, part_size: int, cuts: list[int], damaged: list[int]
) -> None:
    files = {"a": noise(length), "b": text(length // 2), "c": b""}
    with tempfile.TemporaryDirectory() as folder:
        root = make_folder(Path(folder, "model"), files)
        data = write(root, part_size=part_size)
        out = Path(folder, "out")
        extract(MemorySource(data), out)
        for cut in cuts:
            os.truncate(out / "ab"[cut % 2], cut)
        for position in damaged:
            path = out / "ab"[position % 2]
            content = path.read_bytes()
            if position < len(content):
                path.write_bytes(flip(content, position))
        extract(MemorySource(data), out, resume=True, num_workers=1 + length % 3)
        assert read_folder(out) == files


# Names ---------------------------------------------------------------------


@pytest.mark.thorough
@settings(max_examples=400)
@given(name=st.one_of(st.text(max_size=40), st.text("./\\ab\0:~ \n", max_size=12)))
@example("..")
@example("a/../../b")
def test_no_name_escapes(name: str) -> None:
    raw = name.encode("utf-8", "surrogatepass")
    data = build(Item(raw, b"content", both={"flags": UTF8}))
    with tempfile.TemporaryDirectory() as folder:
        outside = make_folder(Path(folder), {"outside": b"", "other/file": b""})
        before = listing(outside)
        out = Path(folder, "deep/er/out")
        try:
            extract(MemorySource(data), out)
        except ArchiveError:
            assert not read_folder(out)
        else:
            assert read_folder(out) == {name: b"content"}
        assert {k: v for k, v in listing(outside).items() if k[:4] != "deep"} == before


# Damage --------------------------------------------------------------------


@pytest.mark.sample(2)
@pytest.mark.parametrize("_", range(4))
def test_mutations_are_refused_or_without_effect(_: int, tmp_path: Path) -> None:
    archives = mutate.seeds()
    seed = random.randrange(10**9)
    results = []
    for number in range(500):
        choose = random.Random(f"{seed} {number}")
        data, files = choose.choice(archives)
        root = tmp_path / f"{number}"
        root.mkdir()
        changed = mutate.mutate(data, choose)
        try:
            results.append(mutate.outcome(changed, files, str(root), 1 + number % 2))
        except BaseException as error:
            error.add_note(f"Mutation {number} of seed {seed}.")
            raise
    assert set(results) == {"refused", "right"}


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", range(8))
def test_every_flipped_bit_is_noticed_or_without_effect(
    kind: int, tmp_path: Path
) -> None:
    data, files = mutate.seeds()[kind]
    # Every byte of what is not content, and some of what is
    directory = data.find(b"PK\1\2")
    positions = [*range(0, directory, 97), *range(directory, len(data), 3)]
    results = []
    for position in positions:
        root = tmp_path / f"{position}"
        root.mkdir()
        changed = flip(data, position, 1 << position % 8)
        results.append(mutate.outcome(changed, files, str(root), 1))
    assert results.count("refused") > len(results) / 2


@pytest.mark.parametrize("kind", range(8))
def test_every_cut_is_noticed(kind: int, tmp_path: Path) -> None:
    data, _ = mutate.seeds()[kind]
    for end in {*range(0, len(data), 151), *range(len(data) - 130, len(data))}:
        with pytest.raises(ArchiveError):
            parse(data[:end])
