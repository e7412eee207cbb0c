r"""Compare bytes that arrived with the directory of an archive."""

from __future__ import annotations

from isal import isal_zlib

from audmodel.core.archive import format
from audmodel.core.archive.plan import Entry
from audmodel.core.archive.plan import MemberPart
from audmodel.core.archive.plan import Stream
from audmodel.core.errors import ArchiveError


def check_crc(member: format.Member, crc: int) -> None:
    r"""Compare the CRC-32 of a member.

    Raises:
        ArchiveError: if it is another one

    """
    check(member.crc.to_bytes(4), crc.to_bytes(4), "CRC-32")


def combine_crc(checksums: dict[str, int], job: MemberPart, crc: int) -> None:
    r"""Combine the CRC-32 of the parts of a member, which come in order.

    Args:
        checksums: CRC-32 of the parts that came before, by names
        job: part of a member
        crc: its CRC-32

    Raises:
        ArchiveError: if it is the last one, and the CRC-32 is not the expected one

    """
    member = job.member
    combined = isal_zlib.crc32_combine(
        checksums.pop(member.name, 0), crc, job.part.uncompressed_size
    )
    if job.is_last:
        try:
            check_crc(member, combined)
        except ArchiveError as error:
            raise named(error, job) from error
    else:
        checksums[member.name] = combined


def check(expected: bytes, actual: bytes, what: str) -> None:
    r"""Compare a digest.

    Raises:
        ArchiveError: if they differ

    """
    if expected != actual:
        raise ArchiveError(f"its {what} is {actual.hex()} instead of {expected.hex()}")


def named(error: ArchiveError, job: Entry | MemberPart | Stream) -> ArchiveError:
    r"""Error that says which file, part and bytes it is about."""
    where = f"the file {job.member.name!r}"
    if isinstance(job, MemberPart):
        where = f"part {job.number} of {where}"
    return ArchiveError(f"{where}, bytes {job.start} to {job.stop}: {error}")
