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
REST = 60.0
# Seconds that are spent on finding out whether a host is at another address
_PATIENCE = 1.0


@dataclass
class _Silence:
    r"""What is known of a host that did not respond.

    Args:
        since: when it did not respond
        addresses: addresses that did not respond so far,
            ``None`` if its name takes too long to resolve

    """

    since: float
    addresses: set[str] | None


_silent: dict[str, _Silence] = {}


def rest(repository: Repository) -> float:
    r"""Seconds for which a host is skipped if another one may respond.

    Args:
        repository: repository on the host

    Returns:
        seconds, ``0`` if it is not skipped

    """
    found = _silent.get(repository.host)
    return 0 if found is None else max(0, found.since + REST - time.monotonic())


def has_moved(repository: Repository) -> bool:
    r"""Whether a host that did not respond is at another address now.

    If a name server gives only some of many addresses each time,
    the host has moved only if all of them are new.

    Args:
        repository: repository on the host

    Returns:
        whether it may respond

    """
    found = _silent.get(repository.host)
    before = None if found is None else found.addresses
    if found is None or before is None:
        return False
    now = _addresses(repository)
    if now is None:
        found.addresses = None
    return bool(now) and before.isdisjoint(now or ())


@contextmanager
def noticed(repository: Repository) -> Iterator[None]:
    r"""Remember whether a host responds inside the block.

    Args:
        repository: repository on the host

    """
    from audmodel.core.backend.errors import OfflineError
    from audmodel.core.backend.errors import RepositoryUnreachableError
    from audmodel.core.process import requests as interruption

    try:
        yield
    except OfflineError:
        raise
    except RepositoryUnreachableError:
        # An interrupted request says nothing about the host
        if not interruption.ended():
            _note(repository)
        raise
    _silent.pop(repository.host, None)


def forget() -> None:
    r"""Skip no host any longer."""
    _silent.clear()


def _note(repository: Repository) -> None:
    addresses = _addresses(repository)
    before = _silent.get(repository.host)
    if addresses is not None and before is not None:
        addresses |= before.addresses or set()
    _silent[repository.host] = _Silence(time.monotonic(), addresses)


def _addresses(repository: Repository) -> set[str] | None:
    r"""Addresses that a host has at the moment.

    Args:
        repository: repository on the host

    Returns:
        addresses, none if its name is not known,
        ``None`` if they cannot be found out soon

    """
    name = server_name(repository)
    if name is None:
        return None
    found: queue.SimpleQueue[set[str]] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            answers = []
        found.put({str(answer[4][0]) for answer in answers})

    if not start_thread(resolve):
        return None
    try:
        return found.get(timeout=_PATIENCE)
    except queue.Empty:
        return None
