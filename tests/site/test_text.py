"""Values are shown so that people see what is there."""

from __future__ import annotations

import pytest

from audmodel.core.site import text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("größer ألف 模型", "größer ألف 模型"),
        ("a\u202eb\u200bc", "a\\u202eb\\u200bc"),
        ("a\nb\x1b[31m", "a\\nb\\x1b[31m"),
        ("\ud800", "\\ud800"),
        (None, "None"),
        (0.5, "0.5"),
    ],
)
def test_each_character_is_seen(value: object, shown: str) -> None:
    assert text.visible(value) == shown


def test_long_text_is_cut() -> None:
    assert text.visible("x" * 2_500) == f"{'x' * 2_000} … (500 more characters)"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.org/1", True),
        ("HTTP://example.org", True),
        ("mailto:a@example.org", True),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        (" https://example.org", False),
        ("https://example.org/\u202e", False),
        ("https://[", False),
        (f"https://example.org/{'x' * 3_000}", False),
        ("12.5", False),
        ("", False),
    ],
)
def test_links(url: str, expected: bool) -> None:
    assert text.is_link(url) is expected


def test_nested_values_are_flat() -> None:
    values = {"a": {"b": 1, 2: {"c": [1, {"d": 2}]}}, "a.b": 3, "e": {}, "f": "x\ny"}
    assert list(text.flat(values)) == [
        (("a", "b"), "1"),
        (("a", "2", "c"), "[1, {'d': 2}]"),
        (("a.b",), "3"),
        (("e",), "{}"),
        (("f",), "x\ny"),
    ]
    assert list(text.flat({})) == []
