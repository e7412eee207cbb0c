"""Random input to all that is read: right, or an error of ours, and in bounds.

Each target runs for a moment in ``make test``.
``TORTURE=1`` gives archives, documents and names 50,000 inputs each.
"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import datetime
import os
from pathlib import Path
import random
from typing import Any

import hypothesis
from hypothesis import strategies as st
import pytest
import yaml

from audmodel.core import uid as ids
from audmodel.core.archive import names
from audmodel.core.archive.reader import Extractor
from audmodel.core.cache.tree import Folder
from audmodel.core.repository import header
from audmodel.core.repository import layout
from audmodel.core.uid import ModelId
from audmodel.core.yaml import document
from audmodel.errors import ArchiveError
from audmodel.errors import InvalidDocumentError
from audmodel.errors import InvalidIdError
from audmodel.errors import InvalidInputError
from tests.archive.tools import MemorySource
from tests.archive.tools import noise
from tests.archive.tools import read_directory
from tests.archive.tools import read_folder
from tests.archive.tools import text
from tests.archive.tools import write_old
from tests.archive.zips import DEFLATED
from tests.archive.zips import Item
from tests.archive.zips import build


# Of each family of faults
pytestmark = pytest.mark.sample(1)


TORTURE = int(os.environ.get("TORTURE", "0"))


Count = Callable[[str], None]


def fuzz(quick: int, full: int) -> hypothesis.settings:
    """Settings for a target."""
    return hypothesis.settings(
        max_examples=full * TORTURE or quick,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


# Archives -----------------------------------------------------------------------

SEEDS = [
    build(Item(b"a", b"content"), Item(b"sub/b", text(3000), DEFLATED)),
    build(Item(b"a", noise(500))),
    write_old({"a": b"x" * 1000, "sub/b": noise(300)}),
]


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Valid input with a few changes."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            data[position : position + 1] = draw(st.binary(min_size=1, max_size=1))
        elif kind == 1:
            data[position : position + 4] = draw(st.binary(min_size=4, max_size=4))
        elif kind == 2:
            del data[position : position + draw(st.integers(1, 40))]
        elif kind == 3:
            data[position:position] = draw(st.binary(max_size=40))
        else:
            start = draw(st.integers(0, len(data)))
            data[position:position] = data[start : start + 60]
    return bytes(data)


@hypothesis.given(data=st.one_of(mutated(SEEDS), st.binary(max_size=300)))
@fuzz(600, 50_000)
def test_archive(tmp_path_factory: Any, count: Count, data: bytes) -> None:
    count("random archives, refused or in bounds")
    source = MemorySource(data)
    with contextlib.suppress(ArchiveError):
        directory = read_directory(source)
        # What is announced is what may be written
        total = sum(member.size for member in directory.members)
        assert total == directory.size
        if total > 100_000:
            return
        root = tmp_path_factory.mktemp("fuzz")
        target = root / "inside"
        target.mkdir()
        try:
            Extractor(source, directory, Folder(str(target)), num_workers=1).run()
        finally:
            assert [path.name for path in root.iterdir()] == ["inside"]
            written = read_folder(target)
            assert sum(map(len, written.values())) <= total


@hypothesis.given(names=st.lists(st.text(max_size=30), max_size=8))
@fuzz(500, 25_000)
def test_names_of_members(count: Count, names: list[str]) -> None:
    count("random names of members, refused or inside")
    check(names)


@pytest.mark.thorough
@hypothesis.given(
    parts=st.lists(
        st.lists(
            st.sampled_from(["..", ".", "", "a", "A", "~", "\\", "\0", "C:", "CON"]),
            max_size=5,
        ),
        max_size=5,
    )
)
@fuzz(500, 25_000)
def test_paths_of_members(count: Count, parts: list[list[str]]) -> None:
    count("random names of members, refused or inside")
    check(["/".join(part) for part in parts])


def check(found: list[str]) -> None:
    """Whatever is let through stays in its folder."""
    with contextlib.suppress(ArchiveError):
        names.check_names(found)
        for name in found:
            path = os.path.normpath(os.path.join("/root/folder", name))
            assert path.startswith("/root/folder/")
            assert "\0" not in name
        collisions = list(names.find_collisions(found))
        folded = {name.removesuffix("/").casefold() for name in found}
        if len(folded) < len(found):
            assert collisions


# YAML -----------------------------------------------------------------------------

YAML_SEEDS = [
    header.Header("me", "today", "n", {"a": [1]}, "s", "1.0.0", None).dump(),
    b"a: &x [1, 2]\nb: *x\nc: !!python/tuple [1, 2]\nd: !!set {a, b}\n",
    b"uid: deadbeef-1.0.0\naliases: [a, b]\n",
    b"a: !!binary aGVsbG8=\nb: 2026-01-01 10:00:00\nc: |\n  text\n  more\n",
]
PLAIN = (dict, list, tuple, set, str, bytes, int, float, bool, type(None))
PLAIN = (*PLAIN, datetime.date, datetime.datetime)  # type: ignore[assignment]
TOKENS = st.lists(
    st.sampled_from(
        "a b: &a *a - ? [ ] { } , : ! !! !!python/tuple !!set !!int !!map !!timestamp "
        "!!python/object/apply:os.system | > ' \" # % --- ... << 1 1.0 .inf 0x1 1:2 ~ "
        "2026-01-01 \n \t".split(" ")
    ),
    max_size=40,
).map(lambda words: " ".join(words).encode())


@pytest.mark.thorough
@hypothesis.given(data=st.one_of(mutated(YAML_SEEDS), TOKENS, st.binary(max_size=200)))
@fuzz(1000, 50_000)
def test_yaml(count: Count, data: bytes) -> None:
    count("random documents, refused or plain data")
    with contextlib.suppress(InvalidDocumentError):
        check_plain(document.load(data, "it"))
    with contextlib.suppress(InvalidDocumentError):
        found = header.parse(data, ModelId("deadbeef", "1.0.0"), "it")
        path = os.path.normpath(os.path.join("/root", found.location, "x"))
        assert path.startswith("/root/")
        assert path.count("/") >= 3


def check_plain(value: object) -> None:
    assert type(value) in PLAIN
    if isinstance(value, dict):
        for key, item in value.items():
            check_plain(key)
            check_plain(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            check_plain(item)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.dates(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=8), inner, max_size=4),
    ),
    max_leaves=12,
)


@pytest.mark.thorough
@hypothesis.given(data=st.dictionaries(st.text(max_size=10), VALUES, max_size=5))
@fuzz(300, 10_000)
def test_what_is_written_is_read(count: Count, data: dict[str, Any]) -> None:
    count("random values written and read, the same")
    try:
        content = document.dump(data, "it")
    except InvalidInputError:
        return
    assert document.load(content, "it") == data
    # By earlier releases as well
    assert yaml.load(content, Loader=yaml.FullLoader) == data


# Names ----------------------------------------------------------------------------


@pytest.mark.thorough
@hypothesis.given(
    value=st.one_of(
        st.text(max_size=80),
        st.from_regex(r"[0-9a-f]{8}(-\d+\.\d+\.\d+)?.?", fullmatch=True),
        mutated([b"deadbeef-1.0.0", b"best-model", b"a.b-c_d"]).map(
            lambda data: data.decode("utf-8", "replace")
        ),
    )
)
@fuzz(1500, 50_000)
def test_names(count: Count, value: str) -> None:
    count("random IDs, aliases and names, refused or safe")
    for check, part in (
        (ids.parse, value),
        (ids.check_alias, value),
        (ids.check_version, value),
        (lambda value: layout.check_location(value, ""), layout.location(value, "")),
        (
            lambda value: layout.check_location("name", value),
            layout.location("name", value),
        ),
    ):
        try:
            check(value)
        except (InvalidIdError, InvalidInputError):
            continue
        path = os.path.normpath(f"/root/{part}/{part}.yaml")
        assert path.startswith("/root/")
        assert part.isascii()
        assert ".." not in Path(part).parts
    parts = random.Random(value).sample(["1.0.0", "2.0.0", value], 3)
    if all(map(ids.is_version, parts)):
        assert set(ids.sort_versions(set(parts))) == set(parts)
