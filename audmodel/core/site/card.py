r"""Model cards: Markdown to HTML in which nothing is active.

HTML is shown as text, links lead to web pages, addresses of mail,
and headings of the card, and no image is fetched.

"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
import re
from typing import TYPE_CHECKING
from typing import Any

from audmodel.core.site import text


if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token


# Characters of a card that are shown
MAX_CARD = 100_000
# Headings of the page come before those of the card
_LEVELS = {"h1": "h3", "h2": "h4", "h3": "h5"}
_ANCHOR = "card-"
# Data at the beginning of a card, as on Hugging Face
_FRONT = re.compile(r"\A---\n(.*?)\n---(?:\n|\Z)", re.S)
_WORDS = re.compile(r"\w+")


def html(markdown: str) -> str:
    r"""HTML of a model card.

    Args:
        markdown: text of the card, which is not trusted

    """
    cut = text.prose(markdown)[:MAX_CARD]
    front = _FRONT.match(cut)
    parser = _parser()
    tokens = parser.parse(cut[front.end() :] if front else cut)
    if front:
        tokens = [*parser.parse(_as_code(front[1])), *tokens]
    _adapt(tokens)
    rest = len(markdown) - MAX_CARD
    if rest > 0:
        tokens += parser.parse(f"… ({rest:,} more characters)")
    return str(parser.renderer.render(tokens, parser.options, {}))


def _as_code(data: str) -> str:
    return "".join(f"    {line}\n" for line in data.split("\n"))


def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(
        ["table", "strikethrough"]
    )
    # Links are judged when they are complete, and images are not fetched
    parser.validateLink = _has_address  # type: ignore[method-assign]
    parser.add_render_rule("image", _image)
    parser.add_render_rule("table_open", _table_open)
    parser.add_render_rule("table_close", _table_close)
    return parser


def _has_address(url: str) -> bool:
    return url != ""


def _adapt(tokens: Sequence[Token]) -> None:
    r"""Make headings fit below those of the page, and give them names."""
    known: set[str] = set()
    for number, token in enumerate(tokens):
        if token.type == "heading_open":
            name = "-".join(_WORDS.findall(tokens[number + 1].content.lower()))
            if name and name not in known:
                known.add(name)
                token.attrSet("id", _ANCHOR + name)
        if token.type in ("heading_open", "heading_close"):
            token.tag = _LEVELS.get(token.tag, "h6")
        if token.type in ("th_open", "td_open"):
            # Styles inside of HTML are forbidden on pages
            alignment = str(token.attrs.pop("style", "text-align:left"))
            token.attrSet("class", alignment.removeprefix("text-align:"))
        _judge(token.children or ())


def _judge(tokens: Iterable[Token]) -> None:
    r"""Let links lead to pages, mail and headings only: others become text."""
    tags: list[str] = []
    for token in tokens:
        if token.type == "link_open":
            url = str(token.attrs.pop("href"))
            token.attrs = {}
            if url.startswith("#"):
                token.attrSet("href", f"#{_ANCHOR}{url[1:]}")
            elif text.is_link(url):
                token.attrSet("href", url)
                token.attrSet("rel", "nofollow noopener noreferrer")
            else:
                token.tag = "span"
            tags.append(token.tag)
        elif token.type == "link_close":
            token.tag = tags.pop()


def _image(self: Any, tokens: Sequence[Token], number: int, *_: object) -> str:
    r"""What an image shows, in words."""
    from markdown_it.common.utils import escapeHtml

    token = tokens[number]
    words = self.renderInlineAsText(token.children or [], {}, {})
    return f'<span class="image">Image: {escapeHtml(words or "no description")}</span>'


def _table_open(*_: object) -> str:
    return '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>'


def _table_close(*_: object) -> str:
    return "</table></div>"
