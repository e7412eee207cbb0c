r"""Versions of a model side by side."""

from __future__ import annotations

from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
import itertools

from audmodel.core import units
from audmodel.core.site import text
from audmodel.core.site.content import File
from audmodel.core.site.content import Version


@dataclass(frozen=True)
class Cell:
    r"""What one version has.

    Args:
        text: what is shown, empty if the version has nothing
        kind: number that cells of the same content share
        is_changed: whether the version before it differs
        url: where the text leads to

    """

    text: str
    kind: int
    is_changed: bool
    url: str = ""


@dataclass(frozen=True)
class Row:
    r"""What each version has of one thing.

    Args:
        label: what it is
        cells: one for each version

    """

    label: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Section:
    r"""Rows that belong together.

    Args:
        title: what they are about
        rows: rows
        omitted: number of rows that are left out, since there are many

    """

    title: str
    rows: Sequence[Row]
    omitted: int


# Text that is shown, and what two versions have in common if it is the same
_Value = tuple[str, Hashable]
_NOTHING: _Value = ("", None)


def sections(versions: Sequence[Version]) -> list[Section]:
    r"""Everything that versions have.

    Args:
        versions: versions, the latest one first

    Returns:
        sections that have rows

    """
    found = (
        _section("Published", map(_published, versions)),
        _section("Metadata", map(_metadata, versions)),
        _section("Files", map(_files, versions)),
    )
    return [section for section in found if section.rows]


def _section(
    title: str, columns: Iterable[Mapping[tuple[str, ...], _Value]]
) -> Section:
    values = list(columns)
    labels = dict.fromkeys(itertools.chain.from_iterable(values))
    shown = list(itertools.islice(labels, text.MAX_ROWS))
    rows = [
        _row(".".join(label), [column.get(label, _NOTHING) for column in values])
        for label in shown
    ]
    return Section(title, rows, len(labels) - len(shown))


def _row(label: str, values: Sequence[_Value]) -> Row:
    contents = [content for _, content in values]
    kinds = list(map(contents.index, contents))
    before = [*kinds[1:], kinds[-1]]
    cells = [
        Cell(shown, kind, kind != earlier, shown if text.is_link(shown) else "")
        for (shown, _), kind, earlier in zip(values, kinds, before, strict=True)
    ]
    return Row(label, cells)


def _published(version: Version) -> dict[tuple[str, ...], _Value]:
    files = version.files
    values = {
        "date": version.date,
        "author": version.author,
        **version.origin,
        "signed by": ", ".join(version.signers),
        "size of archive": units.size(version.size),
        "files": "" if files is None else f"{len(files):,}",
        "size of files": ""
        if files is None
        else units.size(sum(f.size for f in files)),
    }
    return {
        (label,): (text.visible(value), value)
        for label, value in values.items()
        if value
    }


def _metadata(version: Version) -> dict[tuple[str, ...], _Value]:
    return {keys: (value, value) for keys, value in text.flat(version.meta)}


def _files(version: Version) -> dict[tuple[str, ...], _Value]:
    return {(text.visible(file.path),): _file(file) for file in version.files or ()}


def _file(file: File) -> _Value:
    return units.size(file.size), (file.size, file.checksum)
