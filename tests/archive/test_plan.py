"""Which parts of an archive are fetched together."""

from __future__ import annotations

import os
from pathlib import Path

from audmodel.core.archive import format
from audmodel.core.archive.plan import Job
from audmodel.core.archive.plan import MemberPart
from audmodel.core.archive.plan import batches
from audmodel.core.archive.plan import plan
from tests.archive.tools import parse
from tests.archive.tools import write


MIB = format.KIB * format.KIB
PART = format.PART_SIZE


def size(jobs: list[Job]) -> int:
    return sum(job.stop - job.start for job in jobs if isinstance(job, MemberPart))


def test_parts_of_a_member_are_fetched_together(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with (tmp_path / name).open("wb") as file:
            file.write(os.urandom(MIB))
            file.truncate(300 * MIB)
    for name in ("c", "d"):
        (tmp_path / name).write_bytes(b"small")
    jobs = plan(parse(write(tmp_path, compression=0)))
    groups = list(batches(jobs, 10))
    assert [job for group in groups for job in group] == jobs
    assert len(groups) < len(jobs) / 2
    for group in groups:
        parts = [job for job in group if isinstance(job, MemberPart)]
        if len(group) > 1:
            assert len(parts) == len(group)
            assert len({part.member.name for part in parts}) == 1
            assert size(group) <= 16 * MIB
    # Ten workers have something to do until the end is near
    last = [size(group) for group in groups if size(group)][-10:]
    assert max(last) <= 2 * PART
    # Fewer of them need fewer requests, and one of them one for each member
    assert len(list(batches(jobs, 4))) < len(groups)
    assert [len(group) for group in batches(jobs, 1)] == [75, 75, 1]


def test_an_archive_without_parts(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"small")
    jobs = plan(parse(write(tmp_path)))
    assert list(batches(jobs, 4)) == [jobs]
    assert list(batches([], 4)) == []
