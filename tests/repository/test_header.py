"""Headers name a place in the repository, and nothing else."""

from __future__ import annotations

import pytest

from audmodel.core.repository import header
from audmodel.core.uid import ModelId
from audmodel.core.yaml import document
from audmodel.errors import InvalidDocumentError


def parse(name: str, subgroup: str | None) -> header.Header:
    data: dict[str, object] = {
        "author": "tester",
        "date": "2026-01-01",
        "name": name,
        "parameters": {},
        "subgroup": subgroup,
        "version": "1.0.0",
    }
    content = document.dump(data, "header")
    return header.parse(content, ModelId("12345678", "1.0.0"), "The header")


@pytest.mark.parametrize(
    ("name", "subgroup"),
    [
        ("a b", None),
        ("a\\b", None),
        ("ä", None),
        ("a\n", None),
        ("a", "b c"),
        ("a", "x" * 1024),
        ("", None),
        ("..", None),
        ("a/../b", None),
    ],
)
def test_name_and_subgroup_that_make_no_path(name: str, subgroup: str | None) -> None:
    with pytest.raises(InvalidDocumentError, match="not a valid path"):
        parse(name, subgroup)


def test_longest_path() -> None:
    assert parse("a", "x" * 1022).location == f"{'x' * 1022}/a"
