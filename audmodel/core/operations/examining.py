r"""Carry out checks in a thread of their own, as far as time allows."""

from __future__ import annotations

from collections.abc import Iterator

from audmodel.core.diagnosis import Check
from audmodel.core.diagnosis import Diagnosis
from audmodel.core.diagnosis import Outcome
from audmodel.core.diagnosis import failed
from audmodel.core.diagnosis import outcomes
from audmodel.core.process.limited import Limited
from audmodel.core.repository.settings import redacted


class Examination:
    r"""Checks of one topic, which begin at once.

    Args:
        topic: what is checked
        checks: the checks, each of which is carried out
            when the one before has ended
        seconds: time for all of them

    """

    def __init__(self, topic: str, checks: Iterator[Check], seconds: float) -> None:
        self._topic = topic
        self._checks = checks
        self._seconds = seconds
        self._current = ""
        self._outcomes = Limited(self._carry_out, seconds)

    def _carry_out(self) -> Iterator[Outcome]:
        for check in self._checks:
            self._current = check[0]
            yield from outcomes(check)

    def result(self) -> list[Diagnosis]:
        r"""What was found in time, without secrets."""
        found, is_whole = self._outcomes.result()
        if not is_whole:
            seen = f"it did not end within {self._seconds:g} s"
            advice = "Host, network or disk may hang. What follows was not checked."
            found.append(failed(self._current, seen, advice))
        return [
            Diagnosis(self._topic, name, state, redacted(seen), redacted(advice))
            for name, state, seen, advice in found
        ]

    def cancel(self) -> None:
        r"""End the checks."""
        self._outcomes.cancel()
