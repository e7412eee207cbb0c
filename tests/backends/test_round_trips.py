"""Links have latency: how many requests calls take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import audmodel
from tests.backends.proxy import Proxy
from tests.behaviour.backends import forget_archive


@pytest.fixture
def uid(counted: Proxy, model_folder: Path) -> str:
    return audmodel.publish(
        str(model_folder),
        "torch",
        {"rate": 16000},
        "1.0.0",
        alias="best",
        meta={"a": 1},
    )


def count(proxy: Proxy, call: Callable[[], Any]) -> int:
    with proxy.counting() as requests:
        call()
    return len(requests)


def test_publish(counted: Proxy, model_folder: Path) -> None:
    number = count(
        counted,
        lambda: audmodel.publish(
            str(model_folder), "torch", {}, "1.0.0", alias="best", meta={"a": 1}
        ),
    )
    # Two of them look whose archive is there, before it is stored and in the end,
    # and one asks for the time
    assert number <= 12


@pytest.mark.parametrize(
    ("function", "limit"),
    [
        (audmodel.exists, 1),
        (audmodel.header, 1),
        (audmodel.meta, 2),
        (audmodel.load, 2),
        (audmodel.url, 1),
        (audmodel.versions, 1),
        (audmodel.size, 1),
    ],
)
def test_cold_cache(
    counted: Proxy, uid: str, function: Callable[[str], Any], limit: int
) -> None:
    assert count(counted, lambda: function(uid)) <= limit


def test_cold_cache_by_alias(counted: Proxy, uid: str) -> None:
    assert count(counted, lambda: audmodel.load("best")) <= 3


@pytest.mark.parametrize("function", [audmodel.load, audmodel.header, audmodel.size])
def test_warm_cache(counted: Proxy, uid: str, function: Callable[[str], Any]) -> None:
    function(uid)
    assert count(counted, lambda: function(uid)) == 0


def test_one_connection_serves_all_calls_of_a_thread(counted: Proxy, uid: str) -> None:
    audmodel.load(uid)
    audmodel.meta(uid)
    audmodel.set_alias("other", uid)
    assert counted.connections == 1


def test_sizes_take_a_request_only_if_headers_lack_them(
    counted: Proxy, uid: str, model_folder: Path
) -> None:
    other = audmodel.publish(str(model_folder), "torch", {"rate": 8000}, "1.0.0")
    # Two lists, two headers and one alias
    assert count(counted, audmodel.models) == 5
    assert count(counted, lambda: audmodel.models(sizes=True)) == 5
    forget_archive(audmodel.config.REPOSITORIES[0], other)
    assert count(counted, audmodel.models) == 5
    assert count(counted, lambda: audmodel.models(sizes=True)) == 6
    # The header, and where the archive is
    assert count(counted, lambda: audmodel.size(other)) <= 3
