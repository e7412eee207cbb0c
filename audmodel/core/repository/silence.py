r"""Hosts that gave no answer, which the next lookups do not wait for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import time


# Seconds for which a host is left out
REST = 60.0
# When hosts gave no answer
_since: dict[str, float] = {}


def rest(host: str) -> float:
    r"""Seconds for which a host is left out where another one may answer.

    Args:
        host: name of the host

    Returns:
        seconds, ``0`` if it is asked

    """
    since = _since.get(host)
    return 0 if since is None else max(0, since + REST - time.monotonic())


@contextmanager
def noticed(host: str) -> Iterator[None]:
    r"""Remember whether a host gives an answer inside the block.

    Args:
        host: name of the host

    """
    from audmodel.core.backend.errors import OfflineError
    from audmodel.core.backend.errors import RepositoryUnreachableError
    from audmodel.core.process import requests as interruption

    try:
        yield
    except OfflineError:
        raise
    except RepositoryUnreachableError:
        # What was interrupted says nothing about the host
        if not interruption.ended():
            _since[host] = time.monotonic()
        raise
    _since.pop(host, None)


def forget() -> None:
    r"""Ask all hosts again."""
    _since.clear()
