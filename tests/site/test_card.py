"""Model cards become HTML in which nothing is active."""

from __future__ import annotations

import pytest

from audmodel.core.site import card
from tests.site.html import Page


def page(markdown: str) -> Page:
    return Page(card.html(markdown))


def test_markdown_becomes_html() -> None:
    made = page(
        "**Fast** and `small`:\n\n- one\n- two\n\n| a | b |\n|---|--:|\n| 1 | 2 |"
    )
    assert [element.text for element in made.all("strong")] == ["Fast"]
    assert [element.text for element in made.all("li")] == ["one", "two"]
    assert [element.text for element in made.all("td")] == ["1", "2"]
    assert made.all("td")[1].attributes == {"class": "right"}


@pytest.mark.parametrize(
    "markdown",
    [
        "<script>alert(1)</script>",
        "text <img src=x onerror=alert(1)> text",
        "<style>* { display: none }</style>",
        "<iframe src='https://example.org'></iframe>",
        "<a href='javascript:alert(1)'>x</a>",
        "`<b onclick=x>`",
        "```html\n<script>alert(1)</script>\n```",
        '```"><script>alert(1)</script>\nx\n```',
        "| <script>x</script> |\n|:--|\n| <b onclick=x> |",
        '[x](https://example.org "><script>alert(1)</script>")',
        "---\nname: <script>alert(1)</script>\n---\n",
    ],
)
def test_html_is_text(markdown: str) -> None:
    made = page(markdown)
    assert made.active() == []
    assert made.all("iframe") == made.all("img") == []
    assert not any(link.startswith("javascript") for link in made.links())


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "&#106;avascript:alert(1)",
        "java\tscript:alert(1)",
        "vbscript:x",
        "data:text/html,<script>alert(1)</script>",
        "file:///etc/passwd",
        "ftp://example.org",
        "//example.org/x",
        "docs/usage.md",
        "../../index.html",
        "?query",
    ],
)
def test_links_lead_to_nothing_else_than_pages_and_mail(url: str) -> None:
    made = page(f"[text]({url}) <{url}> [ref][1]\n\n[1]: {url}")
    assert made.links() == []
    assert "text" in made.all("p")[0].text


@pytest.mark.parametrize(
    "url", ["https://example.org/a?b=c#d", "http://example.org", "mailto:a@example.org"]
)
def test_links_of_known_kinds_stay(url: str) -> None:
    (link,) = page(f"[text]({url})").all("a")
    assert link.attributes["href"] == url
    assert link.attributes["rel"] == "nofollow noopener noreferrer"


def test_links_to_headings_find_them() -> None:
    made = page("# How to use it\n\n[there](#how-to-use-it)\n\n# How to use it")
    first, second = made.all("h3")
    assert first.attributes == {"id": "card-how-to-use-it"}
    assert second.attributes == {}
    assert made.links() == ["#card-how-to-use-it"]


def test_headings_come_below_those_of_the_page() -> None:
    made = page("# a\n## b\n### c\n#### d\n###### e\n")
    tags = [element.tag for element in made.elements]
    assert tags == ["h3", "h4", "h5", "h6", "h6"]


def test_images_are_described() -> None:
    made = page("![A <b>plot</b>](https://example.org/track.png) ![](x.png)")
    assert made.all("img") == []
    images = [e for e in made.all("span") if e.attributes == {"class": "image"}]
    assert [element.text for element in images] == [
        "Image: A <b>plot</b>",
        "Image: no description",
    ]


def test_data_at_the_beginning_is_shown_as_it_is() -> None:
    made = page("---\nlicense: mit\n---\n# Title\n")
    assert [element.text for element in made.all("code")] == ["license: mit\n"]
    assert [element.text for element in made.all("h3")] == ["Title"]


def test_characters_that_change_directions_are_seen() -> None:
    assert "\\u202e" in card.html("abc\u202edef \u2066x")
    assert "👩‍🚒" in card.html("👩‍🚒")


def test_characters_that_cannot_be_encoded_are_seen() -> None:
    assert card.html("\ud800 \x00 \x1b").isprintable() is False
    card.html("\ud800 \x00 \x1b").encode()


def test_long_card_is_cut() -> None:
    made = card.html("word " * 100_000)
    assert len(made) < 110_000
    assert "(400,000 more characters)" in made


@pytest.mark.parametrize("pattern", ["[", "*", "> ", "|"])
def test_strange_card_takes_no_time(pattern: str) -> None:
    made = card.html(pattern * (card.MAX_CARD // len(pattern)))
    assert len(made) < 10 * card.MAX_CARD
