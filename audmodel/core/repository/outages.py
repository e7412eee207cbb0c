r"""Hosts that did not respond, which the next lookups skip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import queue
import socket
import time

from audmodel.core.process.workers import start_thread
from audmodel.core.repository.repository import Repository
from audmodel.core.repository.repository import server_name


# Seconds for which a host is skipped
SKIPPED = 60.0
# Seconds that are spent on finding out whether a host is at another address
_RESOLVE_TIMEOUT = 1.0


@dataclass
class _Outage:
    r"""What is known of a host that did not respond.

    Args:
        since: when it did not respond
        addresses: addresses that did not respond so far,
            ``None`` if its name takes too long to resolve

    """

    since: float
    addresses: set[str] | None


_outages: dict[str, _Outage] = {}


def skipped_for(repository: Repository) -> float:
    r"""Seconds for which a host is skipped if another one may respond, or ``0``."""
    found = _outages.get(repository.host)
    return 0 if found is None else max(0, found.since + SKIPPED - time.monotonic())


def has_moved(repository: Repository) -> bool:
    r"""Whether a host that did not respond is at another address now.

    If a name server gives only some of many addresses each time,
    the host has moved only if all of them are new.

    Returns:
        whether it may respond

    """
    found = _outages.get(repository.host)
    before = None if found is None else found.addresses
    if found is None or before is None:
        return False
    now = _addresses(repository)
    if now is None:
        found.addresses = None
    return bool(now) and before.isdisjoint(now or ())


@contextmanager
def recorded(repository: Repository) -> Iterator[None]:
    r"""Remember whether a host responds inside the block."""
    from audmodel.core.backend.errors import OfflineError
    from audmodel.core.backend.errors import RepositoryUnreachableError
    from audmodel.core.process import requests as interruption

    try:
        yield
    except OfflineError:
        raise
    except RepositoryUnreachableError:
        # An interrupted request says nothing about the host
        if not interruption.cancelled():
            _note(repository)
        raise
    _outages.pop(repository.host, None)


def forget() -> None:
    r"""Skip no host any longer."""
    _outages.clear()


def _note(repository: Repository) -> None:
    addresses = _addresses(repository)
    before = _outages.get(repository.host)
    if addresses is not None and before is not None:
        addresses |= before.addresses or set()
    _outages[repository.host] = _Outage(time.monotonic(), addresses)


def _addresses(repository: Repository) -> set[str] | None:
    r"""Addresses that a host has now, ``None`` if they cannot be found out soon."""
    name = server_name(repository)
    if name is None:
        return None
    resolved: queue.SimpleQueue[set[str]] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            found = []
        resolved.put({str(each[4][0]) for each in found})

    if not start_thread(resolve):
        return None
    try:
        return resolved.get(timeout=_RESOLVE_TIMEOUT)
    except queue.Empty:
        return None
