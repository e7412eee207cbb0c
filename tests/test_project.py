"""What the project promises about itself: its files, version and isolation."""

from __future__ import annotations

import os
from pathlib import Path
import re
import socket
import subprocess
import sys
import time
import tomllib
from typing import Any

import audbackend
import psutil
import pytest
import yaml

import audmodel
from tests.conftest import RELEASE
from tests.conftest import ROOT
from tests.conftest import OutOfReachError
from tests.processes import Interpreter


def settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


# Files ---------------------------------------------------------------------


def test_version_is_in_one_place() -> None:
    assert settings()["project"]["dynamic"] == ["version"]
    path = settings()["tool"]["hatch"]["version"]["path"]
    found = re.findall(
        r"""^__version__ = "(.+)"$""", (ROOT / path).read_text("utf-8"), re.MULTILINE
    )
    assert found == [audmodel.__version__]
    for name in ("pyproject.toml", "Makefile", "docs/conf.py"):
        assert audmodel.__version__ not in (ROOT / name).read_text("utf-8")


def test_changelog_names_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.rst").read_text(encoding="utf-8")
    newest = re.search(r"^Version ([^ ]+) \(", changelog, flags=re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == audmodel.__version__


@pytest.mark.parametrize(
    "path",
    [
        "py.typed",
        "core/repository/default.yaml",
        "core/site/assets/style.css",
        "core/site/templates/model.html",
    ],
)
def test_package_has_its_data(path: str) -> None:
    package = Path(audmodel.__file__).parent
    assert (package / path).is_file()


@pytest.mark.parametrize("target", ["demo", "test", "check", "docs", "bench", "clean"])
def test_make_has_target(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:.* ## .+$", makefile, flags=re.MULTILINE)


def test_each_dependency_has_its_reasons() -> None:
    page = (ROOT / "docs" / "decisions" / "dependencies.rst").read_text("utf-8")
    explained = re.findall(r"^``(.+)``$", page, flags=re.MULTILINE)
    dependencies = settings()["project"]["dependencies"]
    assert explained == [entry.partition(">=")[0] for entry in dependencies]


FOLDERS = "audmodel|benchmarks|cli|core|docs|examples|requirements|tests|[.]ci"


def test_files_that_readers_are_sent_to_exist() -> None:
    missing = []
    for page in [*ROOT.glob("*.rst"), *(ROOT / "docs").rglob("*.rst")]:
        for name in re.findall(
            rf"``((?:{FOLDERS})/[\w./-]+)``", page.read_text("utf-8")
        ):
            base = ROOT / "audmodel" if re.match("cli|core", name) else ROOT
            if not (base / name).exists() and not (base / f"{name}.py").exists():
                missing.append(f"{page.name}: {name}")
    assert missing == []


# Workflow ------------------------------------------------------------------

CI_RUN = ROOT / ".ci" / "run"
WORKFLOW = ROOT / ".github" / "workflows" / "test.yml"


def workflow_jobs() -> dict[str, Any]:
    jobs: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text("utf-8"))["jobs"]
    return jobs


def test_workflow_runs_everything_on_each_python_that_is_supported() -> None:
    everything = workflow_jobs()["everything"]
    supported = re.findall(
        r"^Programming Language :: Python :: (3\.\d+)$",
        "\n".join(settings()["project"]["classifiers"]),
        flags=re.MULTILINE,
    )
    assert everything["strategy"]["matrix"]["python"] == supported
    assert ".ci/run" in [step.get("run") for step in everything["steps"]]


def test_workflow_runs_commands_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for job in workflow_jobs().values():
        scripts = [step["run"] for step in job["steps"] if "run" in step]
        for script in scripts:
            if script.startswith(".ci/"):
                assert os.access(ROOT / script, os.X_OK), script
        for case in job.get("strategy", {}).get("matrix", {}).get("include", []):
            assert "make ${{ matrix.target }}" in scripts
            assert re.search(rf"^{case['target']}:", makefile, flags=re.MULTILINE)


def test_workflow_installs_the_programs_that_tests_run() -> None:
    wanted = re.findall(r"^ +\[\w+\]=\"?(.+?)\"?$", CI_RUN.read_text("utf-8"), re.M)
    scripts = [step.get("run", "") for step in workflow_jobs()["everything"]["steps"]]
    (installing,) = [script for script in scripts if "apt-get install" in script]
    installed = set(installing.split())
    assert len(wanted) > 3
    assert not [names for names in wanted if installed.isdisjoint(names.split())]


# Import --------------------------------------------------------------------


def run_python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


@pytest.mark.parametrize(
    "module",
    ["audbackend", "audeer", "boto3", "botocore", "fsspec", "requests", "urllib3"],
)
def test_import_leaves_heavy_packages_alone(module: str) -> None:
    code = f"import sys, audmodel; print({module!r} in sys.modules)"
    assert run_python(code) == "False"


def test_import_takes_less_than_a_tenth_of_a_second() -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("COVERAGE_")
    }

    code = """
import time
start = time.process_time()
import audmodel
print(time.process_time() - start)
"""

    def duration() -> float:
        result = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        return float(result.stdout)

    # Of the processor, and the fastest of several, since the machine may be busy
    assert min(duration() for _ in range(7)) < 0.1


def test_import_needs_no_network_and_writes_nothing(home: Path) -> None:
    run_python("import audmodel")
    assert list(home.iterdir()) == []


def test_yaml_of_other_programs_stays_as_it_is(home: Path) -> None:
    code = """
import yaml
def dumped():
    return [yaml.dump({"b": 1, "a": 2}), yaml.safe_dump({"b": 1, "a": 2})]
before = dumped()
import audmodel
audmodel.config.REPOSITORIES
assert "audmodel.core.yaml.document" in __import__("sys").modules
print(dumped() == before)
"""
    assert run_python(code) == "True"


# Tests that hang -----------------------------------------------------------

HANGS = """
import threading
import pytest

@pytest.fixture
def hanging():
    yield
    threading.Event().wait()

def test_hangs(hanging):
    assert False
"""


@pytest.mark.thorough
def test_clean_up_after_a_failure_has_a_limit_too(tmp_path: Path) -> None:
    (tmp_path / "test_hangs.py").write_text(HANGS)
    options = ["-c", "/dev/null", "--timeout=1", "--timeout-method=thread"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-p", "tests.conftest", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert "Timeout" in result.stderr
    assert "in hanging" in result.stderr


def test_forks_end_with_the_process_that_a_test_started() -> None:
    interpreter = Interpreter(sys.executable, {"PYTHONPATH": str(ROOT)})
    process = interpreter.start(
        """
        pid = os.fork()
        if pid:
            print(pid, flush=True)
        time.sleep(600)
        """
    )
    assert process.process.stdout is not None
    fork = int(process.process.stdout.readline())
    interpreter.stop()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(fork) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not psutil.pid_exists(fork)


# The released version ------------------------------------------------------


def test_released_version_is_at_hand(released_python: Path) -> None:
    # Isolated, or it would import what is in the current folder
    result = subprocess.run(
        [released_python, "-I", "-c", "import audmodel; print(audmodel.__version__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == RELEASE


# Isolation of tests --------------------------------------------------------


def test_home_is_empty(home: Path) -> None:
    assert Path.home() == home
    assert list(home.iterdir()) == []
    assert audmodel.default_cache_root().startswith(str(home))


def test_environment_is_not_the_users() -> None:
    assert not [
        name
        for name in os.environ
        if name.startswith(("AUDMODEL_", "MINIO_", "ARTIFACTORY_", "AWS_"))
    ]


@pytest.mark.out_of_reach
@pytest.mark.parametrize("host", ["192.0.2.1", "audmodel.example"])
def test_other_hosts_are_out_of_reach(host: str, loopback_only: list[str]) -> None:
    with pytest.raises(OutOfReachError, match=re.escape(host)):
        socket.create_connection((host, 80), timeout=1)
    assert loopback_only == [host]


def test_this_machine_is_in_reach() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), timeout=5),
    ):
        pass


@pytest.mark.parametrize("_", range(2))
def test_configuration_is_restored(_: int, home: Path) -> None:
    assert [entry.name for entry in audmodel.config.REPOSITORIES] == [
        "models",
        "audmodel-public",
    ]
    assert audmodel.default_cache_root() == str(home / "audmodel")
    assert "mine" not in audmodel.Repository.backend_registry
    audmodel.config.REPOSITORIES.append(audmodel.Repository("a", "b", "file-system"))
    audmodel.config.CACHE_ROOT = "elsewhere"
    audmodel.Repository.register("mine", audbackend.backend.FileSystem)
    os.environ["AUDMODEL_CACHE_ROOT"] = "somewhere"
