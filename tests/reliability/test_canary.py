"""Secrets appear nowhere, whatever goes wrong and whoever logs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import random

import pytest

import audmodel
from audmodel import errors
from tests.backends import proxy as faults
from tests.backends.conftest import forget as forget
from tests.backends.conftest import hasty as hasty
from tests.backends.test_secrets import describe
from tests.backends.test_secrets import everything as everything
from tests.reliability.remote import OPERATIONS
from tests.reliability.remote import Remote
from tests.reliability.remote import storage as storage
from tests.reliability.test_wire import FAULTS


# Of each family of faults
pytestmark = pytest.mark.sample(1)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_faults(
    storage: Remote,
    everything: list[str],
    tmp_path: Path,
    operation: str,
    chance: random.Random,
    torture: int,
    count: Callable[[str, int], None],
) -> None:
    # What lasts long tells nothing more
    slow = ("stall", "line by line", "byte by byte", "endless", "MB")
    kinds = [kind for kind in FAULTS if not any(word in kind for word in slow)]
    kinds = chance.sample(kinds, min(len(kinds), 20 * torture or 4))
    everything.append(repr(storage.repository))
    for kind in kinds:
        fault = faults.nth(chance.randrange(3), FAULTS[kind], and_later=True)
        call, _ = OPERATIONS[operation](storage)
        with storage.fault(fault):
            try:
                call()
            except errors.AudmodelError as error:
                everything += [describe(error), repr(error.__dict__)]
    everything += [repr(vars(storage.repository)), repr(audmodel.config)]
    with storage.repository.connect() as backend:
        everything += [repr(backend), repr(vars(backend))]
    for path in tmp_path.rglob("*"):
        everything.append(str(path))
        if path.is_file() and path.stat().st_size < 100_000:
            everything.append(path.read_bytes().decode("latin-1"))
    count("calls with faults looked through for secrets", len(kinds))
