r"""What a check of installation, cache or repository has found.

A check returns an outcome, or raises an error, which counts as a failed check.
So no check ends the others.

"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from typing import NamedTuple
from typing import TypeAlias

from audmodel.core.errors import AudmodelError


State: TypeAlias = Literal["ok", "warning", "failed", "unknown"]


@dataclass(frozen=True)
class Diagnosis:
    r"""What a check has found.

    Args:
        topic: what was checked: ``'versions'``, ``'settings'``, ``'cache'``,
            or the repository, as text
        name: name of the check
        state: ``'ok'``, ``'warning'`` if it works, but may be better,
            ``'failed'`` if something does not work,
            ``'unknown'`` if it was not found out
        seen: what was found
        advice: what to do, empty if there is nothing to do,
            or ``seen`` says it

    """

    __module__ = "audmodel"

    topic: str
    name: str
    state: State
    seen: str
    advice: str = ""


class Outcome(NamedTuple):
    r"""A :class:`Diagnosis` without topic."""

    name: str
    state: State
    seen: str
    advice: str = ""


# Name of a check, and what carries it out
Check: TypeAlias = tuple[str, Callable[[], Iterable[Outcome]]]


def ok(name: str, seen: str) -> Outcome:
    r"""It works."""
    return Outcome(name, "ok", seen)


def warning(name: str, seen: str, advice: str) -> Outcome:
    r"""It works, but may be better."""
    return Outcome(name, "warning", seen, advice)


def failed(name: str, seen: str, advice: str = "") -> Outcome:
    r"""It does not work."""
    return Outcome(name, "failed", seen, advice)


def unknown(name: str, seen: str, advice: str = "") -> Outcome:
    r"""It was not found out."""
    return Outcome(name, "unknown", seen, advice)


def outcomes(check: Check) -> Iterator[Outcome]:
    r"""Outcomes of a check, of which an error is one.

    Args:
        check: name of the check, and what carries it out

    """
    name, carry_out = check
    try:
        yield from carry_out()
    except (AudmodelError, OSError) as error:
        yield failed(name, str(error) or type(error).__name__)
    # Classes of users may raise anything, and the other checks go on
    except Exception as error:  # noqa: BLE001
        yield failed(
            name,
            f"the check ended with {type(error).__name__}: {error}",
            "If no class of your own is involved, please report it.",
        )
