"""On every backend parts are copied that other models in the cache have."""

from __future__ import annotations

from collections.abc import Callable
import logging
from pathlib import Path
import re

import pytest

import audmodel
from tests.archive.tools import make_folder
from tests.archive.tools import noise
from tests.archive.tools import read_folder
from tests.behaviour.backends import publish


MIB = 1 << 20
PART = 4 * MIB
FILES = {"a.bin": noise(9 * MIB), "b/c.bin": noise(MIB, 1), "z.bin": noise(PART, 2)}
CHANGED = {**FILES, "z.bin": noise(PART, 3), "moved": FILES["b/c.bin"]}
DONE = re.compile(r"(\d+) bytes of them fetched .* (\d+) bytes copied")


def load(uid: str) -> str:
    return audmodel.load(uid, num_workers=2)


def load_list(uid: str) -> str:
    return audmodel.load([uid], num_workers=2)[0]


def load_some(uid: str) -> str:
    return audmodel.load(uid, files=["*"], num_workers=2)


def stream(uid: str) -> str:
    list(audmodel.stream(uid, num_workers=2))
    return audmodel.load(uid)


@pytest.mark.sample(6)
@pytest.mark.parametrize("function", [load, load_list, load_some, stream])
def test_copied_and_fetched(
    repository: audmodel.Repository,
    tmp_path: Path,
    function: Callable[[str], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    audmodel.load(publish(make_folder(tmp_path / "1", FILES)))
    uid = publish(make_folder(tmp_path / "2", CHANGED), version="2.0.0")
    caplog.set_level(logging.INFO, "audmodel")
    plan = audmodel.plan_load(uid)
    assert read_folder(function(uid)) == CHANGED
    [(fetched, copied)] = DONE.findall(caplog.text)
    assert (
        (int(fetched), int(copied))
        == (PART, 11 * MIB)
        == (
            plan.size - plan.copied,
            plan.copied,
        )
    )
