"""What servers of the tests share: they run in threads of the process."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
import threading
from typing import Any
from typing import Self


class Handler(BaseHTTPRequestHandler):
    """Handler whose connections are kept."""

    protocol_version = "HTTP/1.1"
    # An answer that leaves in two pieces waits for the client in between
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    @property
    def owner(self) -> Any:
        """The server as its tests know it."""
        return self.server.owner

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    owner: LoopbackServer

    def handle_error(self, *_: Any) -> None:
        """Say nothing of connections that break, of which tests have many."""


class LoopbackServer:
    """Server that is there as long as a block.

    Args:
        handler: class that handles requests
        address: where it listens, a port that is free if it is ``0``

    """

    def __init__(
        self, handler: type[Handler], address: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        self._server = _Server(address, handler)
        self._server.owner = self
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.02},
            daemon=True,
        )

    @property
    def host(self) -> str:
        """Host and port."""
        return f"{self._server.server_address[0]!s}:{self.port}"

    @property
    def port(self) -> int:
        """Port."""
        return self._server.server_address[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
