"""Change the code in one place after the other: does a test fail each time?

The changes are chosen by chance from all those of the modules in targets.py.
Copies of the project are changed, each in one place at a time,
and the tests that reach it run until the first one fails.
What is known from an earlier run with the same code is not done again,
so that a run can be stopped, and goes on where it was.

"""

from __future__ import annotations

import argparse
from collections import Counter
import contextlib
import hashlib
import json
import os
from pathlib import Path
import random
import signal
import subprocess
import sys
import time
from typing import Any

from tests.mutants.mutations import Mutation
from tests.mutants.mutations import mutations
from tests.mutants.running import Outcome
from tests.mutants.running import Reach
from tests.mutants.running import copied
from tests.mutants.running import prepare
from tests.mutants.running import run
from tests.mutants.running import write
from tests.mutants.targets import modules
from tests.mutants.targets import others


ROOT = Path(__file__).parent.parent.parent
EQUIVALENT = Path(__file__).with_name("equivalent.txt")
RESULTS = "results.jsonl"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.mutants", description=__doc__)
    parser.add_argument("count", type=int, help="how many changes to try")
    parser.add_argument("seed", type=int, help="what chance depends on")
    parser.add_argument("--minutes", type=float, default=90, help="when to stop")
    parser.add_argument(
        "--seconds", type=float, default=10, help="of tests, for each change"
    )
    parser.add_argument("--only", default="", help="text in the path of the modules")
    parser.add_argument("--again", action="store_true", help="retry what survived")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    # Of a process that this one starts: its number, and where results go
    parser.add_argument("--job", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def equivalent() -> dict[str, str]:
    """Changes that change nothing that could be tested, and why."""
    lines = EQUIVALENT.read_text(encoding="utf-8").splitlines()
    entries = [line for line in lines if line and not line.startswith("# ")]
    return dict(zip(entries[::2], (line.strip() for line in entries[1::2])))


class Results:
    """How earlier changes ended, by the change and the text of its module."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._known = {entry["key"]: entry for entry in map(json.loads, lines)}

    @staticmethod
    def key(mutation: Mutation, source: bytes) -> str:
        return f"{mutation.name} {hashlib.sha256(source).hexdigest()[:16]}"

    def get(self, key: str) -> dict[str, Any] | None:
        return self._known.get(key)

    def add(self, entry: dict[str, Any]) -> None:
        self._known[entry["key"]] = entry
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


def chosen(options: argparse.Namespace) -> list[tuple[Mutation, bytes]]:
    """Changes to try, those of one module beside each other."""
    sources = {path: Path(path).read_bytes() for path in modules()}
    found = [
        (mutation, source)
        for path, source in sources.items()
        if options.only in path
        for mutation in mutations(path, source)
    ]
    count = min(options.count, len(found))
    picked = random.Random(options.seed).sample(range(len(found)), count)
    return [found[k] for k in sorted(picked)]


def attempt(
    reach: Reach,
    mutation: Mutation,
    source: bytes,
    files: list[str],
    seconds: float,
    *,
    guess: bool,
) -> dict[str, Any]:
    """Change a module and run tests.

    Args:
        reach: which tests reach which lines
        mutation: the change
        source: the module before
        files: files of tests
        seconds: of tests
        guess: whether to run all tests if none is known to reach the lines

    """
    lines = range(mutation.first, mutation.last + 1)
    tests = reach.choose(files, mutation.path, lines, seconds, guess=guess)
    needed = sorted({test.partition("::")[0] for test in tests})
    start = time.monotonic()
    outcome = Outcome(hung=False, failed=[], seconds={})
    if tests:
        write(ROOT / mutation.path, mutation.apply(source))
        try:
            limit = 15 + 3 * sum(tests.values())
            outcome = run(ROOT, needed, limit, chosen=tests)
        finally:
            write(ROOT / mutation.path, source)
    result = "hung" if outcome.hung else "killed" if outcome.failed else "survived"
    return {
        "key": Results.key(mutation, source),
        "line": mutation.first,
        "result": result,
        "tests": len(tests),
        "by": outcome.failed[:1],
        "seconds": round(time.monotonic() - start, 1),
    }


def main() -> int:
    options = arguments()
    # What is under way is ended and removed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if options.results:
        attempt_all(options)
        return 0
    results = ROOT / ".mutants"
    results.mkdir(exist_ok=True)
    wanted = chosen(options)
    with contextlib.ExitStack() as stack:
        jobs = [start(stack, job, results) for job in range(options.jobs)]
        for job in jobs:
            job.wait()
    return summary(wanted, Results(results / RESULTS))


def start(
    stack: contextlib.ExitStack, job: int, results: Path
) -> subprocess.Popen[bytes]:
    """Start a process that changes a copy of its own."""
    copy, python = stack.enter_context(copied(ROOT))
    command = [str(python), "-m", "tests.mutants", *sys.argv[1:]]
    command += ["--job", str(job), "--results", str(results)]
    process = stack.enter_context(subprocess.Popen(command, cwd=copy))
    stack.callback(process.terminate)
    return process


def attempt_all(options: argparse.Namespace) -> None:
    """Try the share of this process on the copy, which is where it runs."""
    deadline = time.monotonic() + 60 * options.minutes
    results = Results(options.results / RESULTS)
    prepare()
    reach = Reach(ROOT, options.results)
    wanted = chosen(options)
    first, last = (
        len(wanted) * k // options.jobs for k in (options.job, options.job + 1)
    )
    for mutation, source in wanted[first:last]:
        known = results.get(Results.key(mutation, source))
        if known and not (options.again and known["result"] == "survived"):
            continue
        found = noticed(reach, mutation, source, options, deadline)
        if found is None:
            break
        results.add(found)
        print(f"{found['result']}: {mutation.first:4} {mutation.name}", flush=True)
    for test in reach.failed():
        print(f"fails without any change: {test}", flush=True)


def noticed(
    reach: Reach,
    mutation: Mutation,
    source: bytes,
    options: argparse.Namespace,
    deadline: float,
) -> dict[str, Any] | None:
    """Try a change with the tests of its module, and then with all others.

    Returns:
        how it ended, ``None`` if time is over

    """
    own = modules()[mutation.path]
    further = others(mutation.path, options.job / options.jobs)
    for files, guess in ((own, True), (further, False)):
        if not reach.measure(files, deadline):
            return None
        found = attempt(reach, mutation, source, files, options.seconds, guess=guess)
        if found["result"] != "survived":
            break
    return found


def summary(wanted: list[tuple[Mutation, bytes]], results: Results) -> int:
    """Print what became of all changes, and those that no test noticed."""
    explained = equivalent()
    counts: Counter[str] = Counter()
    for mutation, source in wanted:
        known = results.get(Results.key(mutation, source))
        result = known["result"] if known else "not tried"
        if result == "survived" and mutation.name in explained:
            result = "equivalent"
        counts[result] += 1
        if known and result == "survived":
            print(f"survived: {known['line']:4} {mutation.name}")
    print(", ".join(f"{number} {result}" for result, number in counts.items()))
    return 1 if counts["survived"] else 0


if __name__ == "__main__":
    sys.exit(main())
