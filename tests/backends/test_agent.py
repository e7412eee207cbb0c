"""Servers are told which version asks them."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
import threading

import pytest

import audmodel


@pytest.fixture
def seen() -> Iterator[tuple[str, list[str]]]:
    """URL of a server that has nothing, and the programs that asked it."""
    programs: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            programs.append(self.headers["User-Agent"])
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815 - the name that the server looks for

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", programs
        server.shutdown()


@pytest.mark.parametrize("backend", ["s3", "artifactory"])
def test_user_agent(seen: tuple[str, list[str]], cache: object, backend: str) -> None:
    url, programs = seen
    audmodel.config.REPOSITORIES = [audmodel.Repository("models", url, backend)]
    try:
        audmodel.exists("deadbeef-1.0.0")
    except audmodel.errors.RepositoryError:
        pass
    assert programs
    for program in programs:
        assert f"audmodel/{audmodel.__version__}" in program.split()
