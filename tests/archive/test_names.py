"""How many folders names need, and which names are one on some file systems."""

from __future__ import annotations

import pytest

from audmodel.core.archive import format
from audmodel.core.archive.names import check_names
from audmodel.core.archive.names import find_collisions
from audmodel.errors import ArchiveError


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (["a", "b"], 0),
        (["a/b/c/d"], 3),
        (["a/b/x", "a/b/y", "a/z"], 2),
        (["a/b/x", "a/c/x", "d/x"], 4),
        (["a/", "a/x"], 1),
        (["a/b/"], 2),
    ],
)
def test_folders_are_counted(
    names: list[str], folders: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(format, "MAX_MEMBERS", folders)
    check_names(names)
    monkeypatch.setattr(format, "MAX_MEMBERS", folders - 1)
    with pytest.raises(ArchiveError, match=f"it has {folders} folders"):
        check_names(names)


@pytest.mark.parametrize(
    ("names", "collisions"),
    [
        (["a", "b"], []),
        (["a", "A"], [("a", "A")]),
        (["a/x", "A/y"], [("a", "A")]),
        (["a/x/1", "A/X/2"], [("a/x", "A/X"), ("a", "A")]),
        (["a/x", "b/X"], []),
        (["a/x", "a/X/"], [("a/x", "a/X")]),
    ],
)
def test_collisions(names: list[str], collisions: list[tuple[str, str]]) -> None:
    assert list(find_collisions(names)) == collisions
