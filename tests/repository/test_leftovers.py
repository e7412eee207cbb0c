"""What an orphan says of itself as text."""

from __future__ import annotations

import pytest

import audmodel


@pytest.mark.parametrize(
    ("removed", "proven", "text"),
    [
        (False, True, ""),
        (False, False, ", not proven to be an orphan"),
        (True, True, ", removed"),
        (True, False, ", removed"),
    ],
)
def test_text(removed: bool, proven: bool, text: str) -> None:
    leftover = audmodel.Leftover(
        "/a/b.zip", "archive", None, "2026-01-01", removed=removed, proven=proven
    )
    assert str(leftover).startswith("/a/b.zip (")
    assert str(leftover).endswith(f", 2026-01-01{text})")
