"""Check that every link inside a folder of pages leads somewhere.

Usage: check_links.py FOLDER

Links to other hosts are left alone, so no network is needed.

"""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
import sys
from urllib.parse import unquote
from urllib.parse import urlsplit


class Page(HTMLParser):
    """Links that leave from a page, and anchors that lead into it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(
        self,
        tag: str,
        attributes: list[tuple[str, str | None]],
    ) -> None:
        for name, value in attributes:
            if value is None:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            elif name in ("href", "src"):
                self.links.add(value)


def main(root: Path) -> int:
    root = root.resolve()
    pages = {path: Page(path) for path in sorted(root.rglob("*.html"))}
    if not pages:
        print(f"There are no pages in {root}.", file=sys.stderr)
        return 1
    dead = [
        f"{path.relative_to(root)}: {link}"
        for path, page in pages.items()
        for link in sorted(page.links)
        if not leads_somewhere(link, path, pages)
    ]
    for line in dead:
        print(f"Dead link in {line}", file=sys.stderr)
    if not dead:
        print(f"The links of {len(pages)} pages all lead somewhere.")
    return 1 if dead else 0


def leads_somewhere(link: str, path: Path, pages: dict[Path, Page]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = path
    if parts.path:
        target = (path.parent / unquote(parts.path)).resolve()
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return False
    if parts.fragment and target in pages:
        return unquote(parts.fragment) in pages[target].anchors
    return True


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
