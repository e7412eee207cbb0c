"""Run contenders in turns, each in a fresh process with a fresh cache."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
from dataclasses import dataclass
from dataclasses import field
import importlib.metadata
import json
import os
from pathlib import Path
import random
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.common import models
from benchmarks.common.link import Link
from benchmarks.common.store import Store
from benchmarks.common.store import released_python


RELEASED = "1.5.3"
OURS = importlib.metadata.version("audmodel")
_SLACK = 256 << 20


@dataclass
class Sample:
    """Outcome of one run.

    Args:
        seconds: how long it took
        peak: largest amount of memory, in bytes
        value: what was returned
        transferred: how many bytes it took, if that is not what passed the link

    """

    seconds: float
    peak: int = 0
    value: str = ""
    transferred: int | None = None


@dataclass(frozen=True)
class Contender:
    """Something to compare.

    Args:
        labels: what tells it apart, by column
        run: runs it once, given the link to the store, if there is one

    """

    labels: dict[str, str]
    run: Callable[[Link | None], Sample]


@dataclass
class Result:
    """What came out for a contender.

    Args:
        labels: what tells it apart, by column
        samples: outcomes of the rounds that count
        requests: how many requests it took
        transferred: how many bytes passed the link

    """

    labels: dict[str, str]
    samples: list[Sample] = field(default_factory=list)
    requests: int | None = None
    transferred: int | None = None

    @property
    def seconds(self) -> list[float]:
        """Seconds of all rounds that count."""
        return [sample.seconds for sample in self.samples]

    @property
    def mean(self) -> float:
        """Mean of the seconds."""
        return statistics.fmean(self.seconds)

    @property
    def deviation(self) -> float:
        """Standard deviation of the seconds."""
        return statistics.pstdev(self.seconds)

    @property
    def peak(self) -> int:
        """Largest amount of memory in any round."""
        return max(sample.peak for sample in self.samples)


class Client:
    """A process that calls functions of one of the two versions.

    Args:
        python: Python that runs it
        where: name, host and backend of the repository
        cache: cache root
        environment: variables of the environment

    """

    def __init__(
        self, python: str, where: list[str], cache: Path, environment: dict[str, str]
    ) -> None:
        script = Path(__file__).with_name("client.py")
        self._process = subprocess.Popen(
            [python, script, *where, cache],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # 1.5.3 warns whenever it waits for a lock
            env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
        )
        self._ready = False

    def ready(self) -> None:
        """Wait until the process is ready for calls."""
        if not self._ready:
            self._outcome()
            self._ready = True

    def start(self, function: str, *arguments: object, **options: object) -> None:
        """Start a call."""
        self.ready()
        assert self._process.stdin is not None
        call = json.dumps([function, [*map(_plain, arguments)], options])
        self._process.stdin.write(call + "\n")
        self._process.stdin.flush()

    def finish(self) -> Sample:
        """Wait for the end of a call."""
        return Sample(**self._outcome())

    def call(self, function: str, *arguments: object, **options: object) -> Sample:
        """Call a function."""
        self.start(function, *arguments, **options)
        return self.finish()

    def _outcome(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("A call failed, see above.")
        outcome: dict[str, Any] = json.loads(line)
        return outcome

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
        self._process.wait()


class Bench:
    """What a benchmark works with.

    Args:
        backend: backend of the store
        repository: name, host and backend of a repository of the user
        rate: bytes per second of a connection, 0 for no limit
        total: bytes per second of all connections, 0 for no limit

    """

    def __init__(
        self,
        backend: str = "s3",
        repository: tuple[str, str, str] | None = None,
        rate: float = 0,
        total: float = 0,
    ) -> None:
        self._stack = contextlib.ExitStack()
        self.folder = Path(
            self._stack.enter_context(
                tempfile.TemporaryDirectory(prefix="audmodel-bench-")
            )
        )
        self.store = Store(self.folder, backend, repository)
        self.released = released_python()
        self.link = self._limited(rate, total) if rate or total else None
        self._warm = 0

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def enter(self, context: contextlib.AbstractContextManager[Any]) -> Any:
        """Leave a context together with this one."""
        return self._stack.enter_context(context)

    def _limited(self, rate: float, total: float) -> Link:
        if self.store.host is None:
            raise SystemExit("A link needs the server that the benchmark starts.")
        link: Link = self.enter(Link(self.store.host, rate, total=total))
        return link

    @contextlib.contextmanager
    def client(
        self, version: str, name: str, link: Link | None, cache: Path | None = None
    ) -> Iterator[Client]:
        """A process with a version, and a fresh cache unless there is one."""
        released = version == RELEASED
        python = self.released if released else sys.executable
        where = self.store.where(name, released, link.host if link else None)
        with (
            self.temporary() as fresh,
            Client(python, where, cache or fresh, self.store.environment) as client,
        ):
            yield client

    @contextlib.contextmanager
    def temporary(self) -> Iterator[Path]:
        """A new folder, which is removed in the end."""
        path = Path(tempfile.mkdtemp(dir=self.folder))
        yield path
        shutil.rmtree(path)

    def prepare(self, link: Link | None, *clients: Client) -> None:
        """Get ready to take the time of what follows."""
        for client in clients:
            client.ready()
        self.warm_up()
        if link:
            link.forget()

    def make_room(self, root: Path) -> None:
        """Have memory for a model, and for an archive of it, before each run."""
        size = models.size_of(root)
        self._warm = 2 * size + min(size, _SLACK)

    def warm_up(self) -> None:
        """Let the machine have the memory that files will take.

        A virtual machine may hand memory that is free back to its host,
        and whoever comes next waits until it is there again.
        """
        path = self.folder / "warm"
        with path.open("wb") as file:
            for _ in range(self._warm >> 20):
                file.write(bytes(1 << 20))
        path.unlink()

    def publish(
        self,
        version: str,
        name: str,
        root: Path,
        link: Link | None,
        workers: int = 0,
        **options: Any,
    ) -> Sample:
        """Publish a model, with a version number that is new."""
        if workers:
            options["num_workers"] = workers
        number = f"1.0.{secrets.randbelow(10**9)}"
        with self.client(version, name, link) as client:
            self.prepare(link, client)
            params = {"by": version}
            call = ("publish", root, "benchmark", params, number)
            return client.call(*call, subgroup="benchmark", **options)

    def publish_alone(
        self,
        version: str,
        root: Path,
        link: Link | None,
        workers: int = 0,
        **options: Any,
    ) -> Sample:
        """Publish a model to a repository of its own."""
        with self.store.bucket() as name:
            return self.publish(version, name, root, link, workers, **options)

    def load(
        self,
        version: str,
        name: str,
        uid: str,
        link: Link | None,
        workers: int = 0,
        root: Path | None = None,
    ) -> Sample:
        """Load a model into a fresh cache, and compare it to a folder."""
        options = {"num_workers": workers} if workers else {}
        with self.client(version, name, link) as client:
            self.prepare(link, client)
            sample = client.call("load", uid, **options)
            if root is not None:
                models.check_same(root, Path(sample.value))
            return sample

    def copy(self, root: Path) -> Sample:
        """Copy a folder."""
        with self.temporary() as folder:
            self.warm_up()
            start = time.perf_counter()
            subprocess.run(["cp", "-r", root, folder / "copy"], check=True)
            return Sample(time.perf_counter() - start)

    def compare(self, contenders: Sequence[Contender], iterations: int) -> list[Result]:
        """Run all contenders in another order in each round.

        The first round does not count:
        it warms up memory and disk,
        and finds out how many requests and bytes a run takes.

        """
        from audeer import progress_bar

        results = [Result(contender.labels) for contender in contenders]
        order = random.Random(0)
        total = (iterations + 1) * len(contenders)
        with progress_bar(total=total, desc="Benchmark") as bar:
            for number in range(iterations + 1):
                turns = list(zip(contenders, results))
                order.shuffle(turns)
                for contender, result in turns:
                    if number:
                        result.samples.append(contender.run(self.link))
                    else:
                        self._count(contender, result)
                    bar.update()
        return results

    def _count(self, contender: Contender, result: Result) -> None:
        if self.store.host is None:
            contender.run(None)
            return
        with Link(self.store.host) as link:
            sample = contender.run(link)
            result.transferred = sample.transferred
            if sample.transferred is None:
                result.requests = link.requests
                result.transferred = link.sent + link.received


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value
