"""A fan-out runs on a Ray cluster by the adapter of the example."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.parts import skip_without


CODE = """
import os, sys
import ray
from audmodel.parallel import MultiWorker, flatten_reduction
from examples.scale_out_ray import RayExecutor

def fail(items):
    raise KeyError(items[0])

def die_once(items, path):
    if items == [1] and not os.path.exists(path):
        open(path, "w").close()
        os._exit(3)
    return [2 * item for item in items]

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
executor = RayExecutor(max_retries=2)
with MultiWorker(fail, 3, executor=executor) as parallel_fail:
    try:
        parallel_fail([1, 2, 3])
    except KeyError:
        print("raised")
with MultiWorker(
    die_once, 3, reduction=flatten_reduction, executor=executor
) as parallel_die:
    print(parallel_die([1, 2, 3], sys.argv[1]))
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    if importlib.util.find_spec("ray") is None:
        skip_without("ray")
    return {
        **os.environ,
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        # On a busy machine it takes long
        "RAY_raylet_start_wait_time_s": "100",
    }


def run(environment: dict[str, str], *args: str) -> str:
    return subprocess.run(
        [sys.executable, *args],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def test_example(environment: dict[str, str]) -> None:
    output = run(environment, str(ROOT / "examples" / "scale_out_ray.py"))
    assert output == "1000 squares by 2 processes\n"


def test_failure_is_raised_and_parts_of_a_dead_worker_are_repeated(
    environment: dict[str, str], tmp_path: Path
) -> None:
    trace = tmp_path / "died"
    output = run(environment, "-c", CODE, str(trace))
    assert trace.exists()
    # Among messages of Ray
    assert {"raised", "[2, 4, 6]"} <= set(output.splitlines())
