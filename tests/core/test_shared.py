"""Values that all threads of a process use."""

from __future__ import annotations

from functools import partial
import os

import pytest

from audmodel.core.process.shared import Shared


def test_values_that_were_used_last_are_kept() -> None:
    shared: Shared[int] = Shared(most=2)
    for key in (1, 2, 1, 3):
        shared.get(key, partial(int, f"{key}0"))
    assert [shared.peek(key) for key in (1, 2, 3)] == [10, None, 30]


def test_value_is_replaced() -> None:
    shared: Shared[str] = Shared()
    assert shared.get(1, lambda: "old") == "old"
    shared.put(1, "new")
    assert shared.get(1, lambda: "other") == "new"


def test_value_is_forgotten_unless_it_is_another_one() -> None:
    shared: Shared[object] = Shared()
    old, new = object(), object()
    shared.put(1, new)
    shared.forget(1, old)
    assert shared.peek(1) is new
    shared.forget(1, new)
    assert shared.peek(1) is None


@pytest.mark.parametrize("inherited", [False, True])
def test_child_process_has_values_only_if_it_inherits_them(inherited: bool) -> None:
    shared: Shared[int] = Shared(inherited=inherited)
    shared.put(1, 10)
    # As another thread may have it at the moment of the fork
    with shared._lock:
        process = os.fork()
        if process == 0:
            has_value = shared.get(1, lambda: 0) == 10
            os._exit(0 if has_value == inherited else 1)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert shared.peek(1) == 10
