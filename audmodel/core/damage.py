r"""Fetch bytes again that arrive damaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from audmodel.core.errors import ArchiveError
from audmodel.core.errors import ArchiveMismatchError


Result = TypeVar("Result")

# Times that bytes are fetched
ATTEMPTS = 5


class Damage:
    r"""Damaged bytes that arrived, in each attempt."""

    def __init__(self) -> None:
        self._seen: list[object] = []

    def add(self, what: object) -> None:
        r"""Take note of what arrived."""
        self._seen.append(what)

    @property
    def is_same(self) -> bool:
        r"""Whether it was the same each time."""
        return all(what == self._seen[0] for what in self._seen)

    @property
    def is_final(self) -> bool:
        r"""Whether to give up."""
        return len(self._seen) >= ATTEMPTS

    def __str__(self) -> str:
        fetched = f"It was fetched {len(self._seen)} times"
        if self.is_same:
            return f"{fetched}, with the same damage: it is damaged in the storage"
        return f"{fetched}, with other damage each time: it is damaged in transit"


def until_intact(
    attempt: Callable[[], Result],
    renew: Callable[[], None],
    content: Callable[[], object] = lambda: None,
) -> Result:
    r"""Fetch and verify some bytes, again if they are damaged.

    Args:
        attempt: fetches and verifies them
        renew: called before they are fetched again
        content: tells one damage from another, apart from the error

    Raises:
        ArchiveError: if they are damaged each time,
            the message says how often, and where that happens

    """
    damage = Damage()
    while True:
        try:
            return attempt()
        except ArchiveError as error:
            damage.add((str(error), content()))
            if damage.is_final:
                if isinstance(error, ArchiveMismatchError) and damage.is_same:
                    raise
                raise type(error)(f"{error}. {damage}") from error
        renew()
