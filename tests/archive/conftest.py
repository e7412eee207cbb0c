"""No test leaves a thread behind."""

from __future__ import annotations

from collections.abc import Iterator
import gc

import pytest

from tests.archive.tools import worker_threads


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    yield
    if worker_threads():
        gc.collect()
    assert not worker_threads()
