r"""What a user may have meant."""

from __future__ import annotations

from collections.abc import Iterable


# Share of a word that has to be right
_CUTOFF = 0.7


def did_you_mean(text: str, known: Iterable[str]) -> str:
    r"""Question about what does not exist, after a space, empty if no name fits."""
    import difflib

    matches = difflib.get_close_matches(text, sorted(set(known)), n=1, cutoff=_CUTOFF)
    return f" Did you mean '{matches[0]}'?" if matches else ""
