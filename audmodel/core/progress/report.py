r"""Report the progress of a call to users and programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import sys
from typing import cast

from audmodel.core.progress.counters import Meter
from audmodel.core.progress.counters import Progress
from audmodel.core.progress.counters import StartProgress
from audmodel.core.progress.counters import View
from audmodel.core.progress.counters import no_progress
from audmodel.core.progress.views import Bar
from audmodel.core.progress.views import Function
from audmodel.core.progress.views import Lines
from audmodel.core.progress.views import ProgressBar
from audmodel.core.progress.views import ShowProgress
from audmodel.core.progress.views import own_bar


class Reporter:
    r"""Reports the progress of a call.

    Args:
        verbose: whether to show it on stderr
        progress: function or bar of a program that shows it

    Raises:
        TypeError: if progress is neither

    """

    def __init__(self, *, verbose: bool, progress: ShowProgress | None) -> None:
        if not (
            progress is None
            or callable(progress)
            or callable(getattr(progress, "update", None))
        ):
            raise TypeError(
                "'progress' has to be a function, or a bar with 'total' and "
                f"'update()' such as one of tqdm, not {progress!r}."
            )
        self._verbose = verbose
        self._progress = progress

    @contextmanager
    def report(self, task: str, unit: str = "B") -> Iterator[StartProgress]:
        r"""Report how much of a task is done.

        Args:
            task: what is done
            unit: what is counted

        Yields:
            is called with the number of bytes of the task or of a part of it,
            and gives what counts those that are done

        """
        views = self._views()
        if not views:
            yield no_progress
            return
        meter = Meter(task, unit, views)
        succeeded = False
        try:
            yield meter
            succeeded = True
        finally:
            meter.close(succeeded=succeeded)

    def _views(self) -> list[View]:
        views = [] if self._progress is None else [_view(self._progress)]
        # Some processes have no place for messages
        if self._verbose and sys.stderr is not None:
            views.append(Bar(own_bar, is_ours=True) if _has_bars() else Lines())
        return views


def _view(progress: ShowProgress) -> View:
    if not hasattr(progress, "update"):
        return Function(progress)
    if not isinstance(progress, type):
        bar = cast(ProgressBar, progress)
        return Bar(lambda state: bar, is_ours=False)

    def make(state: Progress) -> ProgressBar:
        more = {"unit": state.unit, "unit_scale": True}
        return cast(ProgressBar, progress(total=state.total, desc=state.task, **more))

    return Bar(make, is_ours=True)


def _has_bars() -> bool:
    r"""Whether stderr is a terminal, or a notebook."""
    from audmodel.parallel import bars

    try:
        return sys.stderr.isatty() or bars.is_notebook()
    except (AttributeError, ValueError):
        return False  # closed, or something that only has write()
