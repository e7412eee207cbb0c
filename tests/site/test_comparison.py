"""Versions are compared: what each has, and where it differs."""

from __future__ import annotations

from typing import Any

from audmodel.core.site import comparison
from audmodel.core.site.content import File
from audmodel.core.site.content import Version


def version(number: str, **values: Any) -> Version:
    return Version(f"12345678-{number}", number, "me", "2026-01-01", **values)


def rows(*versions: Version, title: str) -> dict[str, list[tuple[str, bool]]]:
    (section,) = (s for s in comparison.sections(versions) if s.title == title)
    return {
        row.label: [(cell.text, cell.is_changed) for cell in row.cells]
        for row in section.rows
    }


def test_what_differs_from_the_version_before_is_changed() -> None:
    found = rows(
        version("3.0.0", meta={"uar": 0.7, "data": "a", "new": 1}),
        version("2.0.0", meta={"uar": 0.6, "data": "a"}),
        version("1.0.0", meta={"uar": 0.6, "data": "a", "new": 1}),
        title="Metadata",
    )
    assert found == {
        "uar": [("0.7", True), ("0.6", False), ("0.6", False)],
        "data": [("a", False), ("a", False), ("a", False)],
        "new": [("1", True), ("", True), ("1", False)],
    }


def test_files_of_the_same_size_differ_by_their_content() -> None:
    found = rows(
        version("2.0.0", files=[File("model.onnx", 5, 1), File("a", 7, 9)]),
        version("1.0.0", files=[File("model.onnx", 5, 2), File("a", 7, 9)]),
        title="Files",
    )
    assert found == {
        "model.onnx": [("5 B", True), ("5 B", False)],
        "a": [("7 B", False), ("7 B", False)],
    }


def test_cells_of_the_same_content_are_of_one_kind() -> None:
    (section,) = comparison.sections(
        [version(f"{number}.0.0", meta={"x": x}) for number, x in enumerate("aba")]
    )[1:]
    assert [cell.kind for cell in section.rows[0].cells] == [0, 1, 0]


def test_only_safe_texts_are_links() -> None:
    origin = {"job": "https://example.org/1", "commit": "javascript:alert(1)"}
    section = comparison.sections([version("1.0.0", origin=origin)])[0]
    urls = {row.label: row.cells[0].url for row in section.rows}
    assert urls["job"] == "https://example.org/1"
    assert urls["commit"] == ""


def test_who_signed_is_shown() -> None:
    found = rows(version("1.0.0", signers=["ada", "grace"]), title="Published")
    assert found["signed by"] == [("ada, grace", False)]


def test_many_rows_are_left_out() -> None:
    meta = {f"key{number}": number for number in range(700)}
    section = comparison.sections([version("1.0.0", meta=meta)])[-1]
    assert (len(section.rows), section.omitted) == (500, 200)
