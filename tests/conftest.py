"""What holds for every test: nobody else's home, environment or network."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import faulthandler
import functools
import ipaddress
import os
from pathlib import Path
import shutil
import signal
import socket
import subprocess
import tempfile
from typing import Any

import hypothesis
import pytest

import audmodel
from audmodel.core.repository import outages
from tests.parts import pytest_addoption as pytest_addoption
from tests.parts import pytest_collection_modifyitems as pytest_collection_modifyitems
from tests.parts import pytest_ignore_collect as pytest_ignore_collect
from tests.parts import pytest_unconfigure as _report_missing_programs
from tests.processes import ROOT as ROOT
from tests.processes import fetched as fetched
from tests.processes import python as python
from tests.processes import released as released


RELEASE = "1.5.3"
RELEASED_PYTHON = "AUDMODEL_RELEASED_PYTHON"

# Variables that tell a library under test where to look or who to be.
FOREIGN_PREFIXES = ("AUDMODEL_", "MINIO_", "ARTIFACTORY_", "AWS_", "XDG_")
FOREIGN_NAMES = (
    "ALL_PROXY",
    # Markers of CI systems, whose jobs headers name
    "BITBUCKET_BUILD_NUMBER",
    "BUILDKITE",
    "CIRCLECI",
    "CURL_CA_BUNDLE",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "FTP_PROXY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "JENKINS_URL",
    "NETRC",
    "NO_PROXY",
    # Every process that a test starts would compile the package anew
    "PYTHONDONTWRITEBYTECODE",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TF_BUILD",
)

# A Python that has the released audmodel. It is read here since no test
# gets to see the variable, which stays for the processes that run tests.
_RELEASED_PYTHON = os.environ.get(RELEASED_PYTHON)


def _foreign_variables() -> list[str]:
    return [
        name
        for name in os.environ
        if name.startswith(FOREIGN_PREFIXES) or name.upper() in FOREIGN_NAMES
    ]


# Nor is anything of the user seen between tests, or while they are collected.
_FIRST_HOME = tempfile.mkdtemp(prefix="audmodel-tests-")
for _name in _foreign_variables():
    if _name != RELEASED_PYTHON:
        del os.environ[_name]
os.environ["HOME"] = os.environ["USERPROFILE"] = _FIRST_HOME

hypothesis.settings.register_profile(
    "default",
    deadline=None,
    database=None,
    # A run says the same of the same code, make torture tries something new
    derandomize="TORTURE" not in os.environ,
    print_blob=True,
)
hypothesis.settings.load_profile("default")


# Folders to remove after a run
_temporary = pytest.StashKey[list[str]]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    _keep_stderr(config)
    config.stash[_temporary] = [_FIRST_HOME]
    if not hasattr(config, "workerinput") and config.option.basetemp is None:
        # Each run closes the usual folder of its user to other users,
        # but tests of an earlier run may have let them in
        config.option.basetemp = tempfile.mkdtemp(prefix="audmodel-tests-")
        config.stash[_temporary].append(config.option.basetemp)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus != pytest.ExitCode.OK:
        # What a failed test has left may be looked at
        del session.config.stash[_temporary][1:]


def pytest_unconfigure(config: pytest.Config) -> None:
    for folder in config.stash[_temporary]:
        shutil.rmtree(folder, ignore_errors=True)
    _report_missing_programs(config)


# Signals -------------------------------------------------------------------


def _take_signals() -> None:
    """Let all processes that tests start have the usual answer to each signal.

    A script that runs the tests in the background, and ``nohup``,
    start them with signals ignored,
    which every process they start inherits, unless there is a handler.

    """
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGALRM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGINT, signal.default_int_handler)


_take_signals()


# Time ----------------------------------------------------------------------

_limit = pytest.StashKey[float]()
_stderr = pytest.StashKey[int]()


def _keep_stderr(config: pytest.Config) -> None:
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        config.stash[_stderr] = os.dup(2)


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Iterator[None]:
    item.stash[_limit] = settings.timeout
    return (yield)


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """A failure ends the time limit of its test, but to clean up may hang as well."""
    limit = node.stash.get(_limit, None)
    if limit is not None:
        # No thread that a test could replace, or count
        faulthandler.dump_traceback_later(
            limit, exit=True, file=node.config.stash[_stderr]
        )


def pytest_runtest_logfinish() -> None:
    faulthandler.cancel_dump_traceback_later()


# Coverage ------------------------------------------------------------------


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the processes that the test starts without measuring coverage.

    It has a lock that stays locked after a signal at the wrong moment,
    and in forks of a process with several threads.

    """
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


# Network -------------------------------------------------------------------


class OutOfReachError(OSError):
    """A test tried to reach a host that is not this machine."""


def _is_here(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    if host in (None, "", "localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


@pytest.fixture(autouse=True)
def loopback_only(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[list[str]]:
    """Refuse every connection that leaves this machine, and report it.

    The code under test gets the error a host out of reach gives.
    Since it may well go on without that host,
    the test fails in the end,
    unless it is marked with ``out_of_reach``.

    Yields:
        the hosts that were tried

    """
    tried: list[str] = []

    def refuse(host: object) -> None:
        tried.append(str(host))
        raise OutOfReachError(f"No test may connect to {host!s}.")

    def guard(name: str) -> Any:
        original = getattr(socket.socket, name)

        def connect(self: socket.socket, address: Any) -> Any:
            is_network = self.family in (socket.AF_INET, socket.AF_INET6)
            if is_network and not _is_here(address[0]):
                refuse(address[0])
            return original(self, address)

        return connect

    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_here(host):
            refuse(host)
        return resolve(host, *args, **kwargs)

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, guard(name))
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield tried
    if tried and request.node.get_closest_marker("out_of_reach") is None:
        pytest.fail(f"The test tried to connect to {', '.join(sorted(set(tried)))}.")


# Home, environment, configuration ------------------------------------------


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the test an empty home folder and an unconfigured audmodel."""
    path = tmp_path_factory.mktemp("home")
    environment = os.environ.copy()
    for name in _foreign_variables():
        del os.environ[name]
    os.environ["HOME"] = os.environ["USERPROFILE"] = str(path)
    try:
        with _unconfigured():
            yield path
    finally:
        os.environ.clear()
        os.environ.update(environment)


@contextlib.contextmanager
def _unconfigured() -> Iterator[None]:
    """Forget the configuration, and what is configured inside the block."""
    config = audmodel.config
    settings = vars(config).copy()
    registry = audmodel.Repository.backend_registry
    classes = registry.data.copy()
    # Files are read when a setting is asked for the next time
    vars(config).update(dict.fromkeys(settings))
    try:
        yield
    finally:
        outages.forget()
        vars(config).update(settings)
        registry.data = classes


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The cache that is used when a test names none."""
    path = tmp_path / "cache"
    audmodel.config.CACHE_ROOT = str(path)
    return path


@pytest.fixture
def repository(tmp_path: Path, cache: Path) -> audmodel.Repository:
    """An empty repository on the file system, the only one configured."""
    host = tmp_path / "host"
    (host / "models").mkdir(parents=True)
    repository = audmodel.Repository("models", str(host), "file-system")
    audmodel.config.REPOSITORIES = [repository]
    return repository


# What takes long -----------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def descriptions_are_parsed_once() -> Iterator[None]:
    """Let all clients of boto3 share what its files say of services.

    To parse them takes ten times as long as the rest of making a client,
    and tests make many: each has its own hosts, keys and settings.

    """
    from botocore import loaders

    original = loaders.JSONFileLoader.load_file
    load = functools.cache(lambda path: original(loaders.JSONFileLoader(), path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaders.JSONFileLoader, "load_file", lambda _, path: load(path))
        yield


# Models --------------------------------------------------------------------


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A small model folder as the documentation shows it."""
    root = tmp_path / "model"
    files = {
        "model.yaml": b"input: melspec\noutput: emotion\n",
        "model.onnx": bytes(range(256)) * 64,
        "readme.txt": "A model for tests, ä ö ü.\n".encode(),
        "log/eval.yaml": b"uar: 0.73\n",
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


# The released audmodel -----------------------------------------------------


@pytest.fixture(scope="session")
def released_python() -> Path:
    """Path of a Python that has the release we share repositories with.

    ``make test`` installs it;
    ``AUDMODEL_RELEASED_PYTHON`` names another one.

    """
    if _RELEASED_PYTHON:
        python = Path(_RELEASED_PYTHON).absolute()
    else:
        folder = "Scripts" if os.name == "nt" else "bin"
        python = ROOT / f".venv-{RELEASE}" / folder / "python"
    advice = (
        f"Tests against audmodel {RELEASE} need it in an environment of its own: "
        "run them with 'make test', "
        "or let AUDMODEL_RELEASED_PYTHON name the Python of such an environment."
    )
    if not python.exists():
        pytest.fail(f"There is no {python}. {advice}")
    result = subprocess.run(
        [python, "-c", "import audmodel; print(audmodel.__version__)"],
        capture_output=True,
        text=True,
        cwd=_FIRST_HOME,
        check=False,
    )
    if result.stdout.strip() != RELEASE:
        pytest.fail(f"{python} does not have it. {advice}\n{result.stderr}")
    return python
