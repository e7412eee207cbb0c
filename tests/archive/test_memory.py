"""Memory depends on workers and parts, not on the model or what it claims."""

from __future__ import annotations

from pathlib import Path

import pytest

from audmodel.core.archive import format
from tests.archive.tools import run_python


MEASURE = """
import sys, tempfile
from audmodel.errors import ArchiveError
from tests.archive import hostile, tools, zips
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if "VmHWM" in line)
before = peak()
"""
PRINT = """
print((peak() - before) // 1024)
"""


def test_memory_of_all_hostile_archives(tmp_path: Path) -> None:
    code = """
for number, (name, data, files) in enumerate(hostile.cases()):
    if "huge" in name or "4 GiB" in name:
        continue
    try:
        tools.extract(tools.MemorySource(data), f"{sys.argv[1]}/{number}")
    except ArchiveError:
        assert files is None, name
    else:
        assert files is not None, name
"""
    assert int(run_python(MEASURE + code + PRINT, tmp_path)) < 50


@pytest.mark.thorough
def test_memory_of_the_largest_directory(tmp_path: Path) -> None:
    code = f"""
count = {format.MAX_MEMBERS}
item = zips.Item(b"x" * 30 + b"/######", b"")
header = item.local_header()
central = item.central_header(0)
# Names end the headers, positions are in front of them
data = b"".join(header[:-6] + b"%06d" % n for n in range(count))
offset = len(data)
data += b"".join(
    central[:42] + (n * len(header)).to_bytes(4, "little") + central[46:-6]
    + b"%06d" % n for n in range(count)
)
import struct
count_here = min(count, 65535)
data += struct.pack("<4sQ2H2L4Q", b"PK\\6\\6", 44, 45, 45, 0, 0, count, count,
                    len(data) - offset, offset)
data += struct.pack("<4sLQL", b"PK\\6\\7", 0, len(data) - 56, 1)
data += struct.pack("<4s4H2LH", b"PK\\5\\6", 0, 0, count_here, count_here,
                    len(data) - 76 - offset, offset, 0)
source = tools.MemorySource(data)
before = peak()
from audmodel.core.archive import end
directory = end.parse(end.read(source), source.size)
assert len(directory.members) == count
"""
    assert int(run_python(MEASURE + code + PRINT)) < 250


def test_many_deep_folders_take_no_memory_before_they_are_refused() -> None:
    code = """
import struct
from audmodel.core.archive.names import check_names
names = [f"{n:05}/" + "d/" * 250 + "f" for n in range(20_000)]
before = peak()
try:
    check_names(names)
except ArchiveError as error:
    assert "folders" in str(error)
else:
    raise AssertionError
"""
    assert int(run_python(MEASURE + code + PRINT)) < 100


def test_names_of_many_deep_folders_take_little_memory() -> None:
    code = """
from audmodel.core.archive import names
deep = "/".join(f"{n:07}" for n in range(253))
members = [f"\U0001f600{n:04}/{deep}" for n in range(980)]
names.check_names(members)
before = peak()
assert not list(names.find_collisions(members))
"""
    assert int(run_python(MEASURE + code + PRINT)) < 150
