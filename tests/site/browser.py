"""A real browser that cannot leave this machine."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
import functools
import http.server
from pathlib import Path
import shutil
import threading
from typing import TYPE_CHECKING
from typing import Any

from tests.parts import skip_without


if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page


_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium of this machine, without a window."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        skip_without("chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=program,
            args=["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )
        with contextlib.closing(started):
            yield started


@dataclass
class Visit:
    """A page in a browser, and what it did beside showing something."""

    page: Page
    base: str
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("dialog", self._dialog)

    def _dialog(self, dialog: Any) -> None:
        self.messages.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def go(self, path: str) -> Page:
        """Open a page of the site."""
        self.page.goto(f"{self.base}/{path}")
        return self.page

    def check(self) -> None:
        """Fail if it asked another place, or had something to complain of."""
        assert self.messages == []
        elsewhere = [url for url in self.requests if not url.startswith(self.base)]
        assert elsewhere == []


@contextmanager
def visit(browser: Browser, base: str, **options: Any) -> Iterator[Visit]:
    """A fresh visitor of a site."""
    context = browser.new_context(**options)
    context.set_default_timeout(10_000)
    try:
        visitor = Visit(context.new_page(), base)
        yield visitor
        visitor.check()
    finally:
        context.close()


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """URL of a folder on a web server of this machine, not its root."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(folder.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{made.server_port}/{folder.name}"
        finally:
            made.shutdown()
            thread.join()
