"""What a browser would make of HTML: elements, their attributes, and text."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
import html.parser


@dataclass
class Element:
    """Element of a page, with the text of all that is in it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""


# Elements that have no end
VOID = {"link", "meta", "img", "br", "hr", "input"}


@dataclass
class Page(html.parser.HTMLParser):
    """Elements of a page, in order."""

    source: str
    elements: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[Element] = []
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop().tag != tag:
            pass

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str) -> list[Element]:
        """Elements with a tag."""
        return [element for element in self.elements if element.tag == tag]

    def links(self) -> list[str]:
        """Where links lead to."""
        return [element.attributes.get("href", "") for element in self.all("a")]

    def active(self) -> list[str]:
        """What runs code, or changes the look of the page."""
        found = [
            element.tag
            for element in self.elements
            if element.tag in ("script", "style", "iframe", "object", "embed", "form")
        ]
        return found + [
            name
            for element in self.elements
            for name in element.attributes
            if name.startswith("on") or name == "style"
        ]
