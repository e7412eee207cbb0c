"""Pages hold what they are given, and nothing of it is active."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from typing import Any

import pytest

from audmodel.core.site import pages
from audmodel.core.site import search
from audmodel.core.site.content import Alias
from audmodel.core.site.content import File
from audmodel.core.site.content import Model
from audmodel.core.site.content import Move
from audmodel.core.site.content import Summary
from audmodel.core.site.content import Version
from audmodel.errors import MissingPackageError
from tests.site.html import Page


EVIL = "</script></title>\"'><img src=x onerror=alert(1)>\u202e{{ 7 * 7 }}\ud800"


def model(text: str = EVIL) -> Model:
    """A model whose records hold a text wherever they can."""
    summary = Summary(
        "12345678",
        text,
        text,
        {text: {text: text}, "__proto__": text},
        ["2.0.0", "1.0.0"],
        [text, text],
        text,
        ["alias"],
    )
    versions = [
        Version(
            f"12345678-{number}",
            number,
            text,
            text,
            10,
            {"job": text},
            {text: text},
            [File(text, 5, 1)],
            [text],
            ["Its archive is missing."],
        )
        for number in summary.versions
    ]
    move = Move(
        "12345678-2.0.0", "12345678-1.0.0", "2026-01-01 12:00", text, text, True
    )
    return Model(summary, versions, [Alias("alias", [move])], text)


def test_hostile_texts_are_texts() -> None:
    made = Page(pages.Pages(EVIL).model(model()).decode())
    (script,) = made.all("script")
    assert script.attributes["src"].startswith("../assets/model.js?")
    assert made.active() == ["script"]
    assert [image.attributes["src"].split("?")[0] for image in made.all("img")] == [
        "../assets/icon.svg"
    ]
    assert "49" not in made.all("main")[0].text
    assert "onerror=alert(1)>\\u202e{{ 7 * 7 }}\\ud800" in made.all("h1")[0].text


def test_hostile_texts_lead_nowhere() -> None:
    made = Page(pages.Pages("x").model(model("javascript:alert(1)")).decode())
    assert not any("javascript" in link.split("#")[0] for link in made.links())


@pytest.mark.parametrize("name", ["index", "model"])
def test_pages_forbid_everything_else(name: str) -> None:
    made = pages.Pages("x")
    data = made.index([], b"") if name == "index" else made.model(model())
    policies = [
        element.attributes["content"]
        for element in Page(data.decode()).all("meta")
        if element.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    (policy,) = policies
    assert policy.split("; ") == [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
    ]


def test_all_addresses_are_relative() -> None:
    made = pages.Pages("x")
    for data in (made.index([], b""), made.model(model("x"))):
        page = Page(data.decode())
        addresses = [
            element.attributes[name]
            for element in page.elements
            for name in ("src", "href")
            if name in element.attributes and element.tag != "a"
        ]
        assert len(addresses) >= 4
        assert not any(re.match(r"\w+:|/", address) for address in addresses)


def test_each_reference_inside_a_page_has_its_target() -> None:
    page = Page(pages.Pages("x").model(model("x")).decode())
    known = {element.attributes.get("id") for element in page.elements}
    inside = [link[1:] for link in page.links() if link.startswith("#")]
    assert inside
    assert set(inside) <= known
    labels = [element.attributes.get("aria-labelledby") for element in page.elements]
    assert set(filter(None, labels)) <= known


def rows(script: bytes) -> Any:
    (body,) = re.fullmatch(
        r"const audmodelModels = (.*);\n", script.decode(), re.S
    ).groups()  # type: ignore[union-attr]
    return json.loads(body)


def test_search_data_is_lists_of_texts() -> None:
    ((short, name, subgroup, versions, number, aliases, authors, _, parameters),) = (
        rows(search.script([model().summary]))
    )
    assert (short, versions, number, aliases) == (
        "12345678",
        ["2.0.0", "1.0.0"],
        2,
        ["alias"],
    )
    assert name == subgroup == authors[0]
    assert "\\u202e" in name
    assert parameters[1].startswith("__proto__=")


def test_search_data_is_small_whatever_the_values_are() -> None:
    summary = model("x" * 10_000_000).summary
    assert len(search.script([summary] * 3)) < 10_000


def test_page_is_small_whatever_the_values_are() -> None:
    assert len(pages.Pages("x").model(model("x" * 1_000_000))) < 200_000


def test_page_is_small_however_many_aliases_and_versions_there_are() -> None:
    made = model("x")
    alias = Alias("alias", list(made.aliases[0].moves) * 1000)
    versions = [f"{number}.0.0" for number in range(10_000)]
    summary = dataclasses.replace(made.summary, versions=versions)
    made = dataclasses.replace(made, summary=summary, aliases=[alias] * 3000)
    page = pages.Pages("x").model(made).decode()
    assert len(page) < 2_000_000
    assert "2,950 more aliases are left out" in page
    assert "The latest 2 of 10000 versions. Older ones: 2.0.0, 3.0.0," in page


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "jinja2" else find(name),
    )
    with pytest.raises(
        MissingPackageError, match=r"jinja2.*pip install 'audmodel\[cat"
    ):
        pages.check_packages()
