"""What a name stood for is remembered, and no more is read of it than that."""

from __future__ import annotations

from pathlib import Path

import pytest

from audmodel.core.cache import alias_cache
from audmodel.core.uid import Alias
from audmodel.core.uid import ModelId


ALIAS = Alias("best")


@pytest.mark.parametrize(
    ("content", "is_known"),
    [
        ("best 12345678-1.0.0\n", True),
        ("best 12345678-1.0.0 12345678-2.0.0", False),
        ("best", False),
        ("", False),
        ("Best 12345678-1.0.0", False),
        ("best 12345678", False),
        ("best ../..", False),
    ],
)
def test_what_was_remembered(tmp_path: Path, content: str, is_known: bool) -> None:
    (tmp_path / ".best.resolved").write_text(content)
    found = alias_cache.recall(str(tmp_path), ALIAS)
    assert found == (ModelId("12345678", "1.0.0") if is_known else None)


def test_nothing_was_remembered(tmp_path: Path) -> None:
    assert alias_cache.recall(str(tmp_path), ALIAS) is None
