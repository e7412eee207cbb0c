r"""Where a model comes from, as its header tells.

::

    provenance:
      date: '2026-01-31T12:00:00Z'
      client: audmodel 2.0.0
      commit: 1b8d2f1
      url: https://example.org/jobs/1

Nothing depends on it, so that a value that is not valid counts as not known.

"""

import dataclasses
from dataclasses import dataclass
import datetime

from audmodel.core.repository import moment


@dataclass(frozen=True)
class Provenance:
    r"""When, with what, and from what a model was published.

    Args:
        date: when it was published, in UTC
        client: program that published it, and its version
        commit: commit of the code that made it
        url: page of the CI job that made it, or what else was given

    Of a model of audmodel 1.x nothing is known,
    and all values that are not known are ``None``.

    """

    __module__ = "audmodel"

    date: datetime.datetime | None = None
    client: str | None = None
    commit: str | None = None
    url: str | None = None


UNKNOWN = Provenance()


def stored(provenance: Provenance) -> dict[str, str]:
    r"""Stored form.

    Args:
        provenance: what is known

    Returns:
        values that are known, by name

    """
    values = dataclasses.asdict(provenance)
    if provenance.date is not None:
        values["date"] = moment.text(provenance.date)
    return {key: value for key, value in values.items() if value is not None}


def parse(value: object) -> Provenance:
    r"""Provenance in a header.

    Args:
        value: what the header holds

    Returns:
        what is known

    """
    values = value if isinstance(value, dict) else {}
    texts = (values.get(key) for key in ("client", "commit", "url"))
    return Provenance(
        moment.parse(values.get("date")),
        *(text if isinstance(text, str) else None for text in texts),
    )
