r"""Moments in records: text in UTC, to the second."""

from __future__ import annotations

import contextlib
import datetime


def text(moment: datetime.datetime) -> str:
    r"""Stored form of a moment, e.g. ``'2026-01-31T12:00:00Z'``.

    Args:
        moment: moment, with time zone

    """
    return f"{moment.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"


def parse(value: object) -> datetime.datetime | None:
    r"""Moment of a record.

    Args:
        value: what a record holds

    Returns:
        moment in UTC, ``None`` if the value is none

    """
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            found = datetime.datetime.fromisoformat(value)
            if found.tzinfo is not None:
                return found.astimezone(datetime.UTC)
    return None
