# /// script
# requires-python = ">=3.11"
# dependencies = ["audmodel"]
#
# [tool.uv.sources]
# audmodel = { path = "..", editable = true }
# ///
"""Do to audmodel 1.5.3 what the tests of the guarantees do to this version.

No benchmark, but facts, on a repository in a folder:

* several processes publish the same model, each with content of its own:
  how often is what is served the content of the one that was told it succeeded
* several processes add a field each to the metadata of a model:
  how many fields are there in the end
* a header that names a function: is it called when the header is read
* an alias that names a path: is something written beside the cache
* publishers that are killed at some time: is the next one kept from publishing

"""

from __future__ import annotations

import argparse
from pathlib import Path
import random
import subprocess
import sys
import tempfile
import time

from benchmarks.common.bench import OURS
from benchmarks.common.bench import RELEASED
from benchmarks.common.store import released_python


SETUP = """
import os, sys, time
import audmodel
folder, action, number = sys.argv[1], sys.argv[2], sys.argv[3]
repository = audmodel.Repository("models", folder, "file-system")
audmodel.config.REPOSITORIES = [repository]
audmodel.config.CACHE_ROOT = os.path.join(folder, "cache", number)
audmodel.versions("00000000")
uid = audmodel.uid("m", {}, "1.0.0")
print("ready", flush=True)
sys.stdin.readline()
if action == "publish":
    root = os.path.join(folder, "content", number)
    audmodel.publish(root, "m", {}, "1.0.0", repository=repository)
elif action == "meta":
    audmodel.update_meta(uid, {"field" + number: 1})
elif action == "load":
    with open(os.path.join(audmodel.load(uid), "model.bin"), "rb") as file:
        print(file.read(8).decode(), flush=True)
elif action == "fields":
    print(len(audmodel.meta(uid)), flush=True)
elif action == "header":
    audmodel.header(uid)
elif action == "alias":
    audmodel.load("link")
"""


class Peer:
    """One of the versions, with a repository of its own."""

    def __init__(self, python: str, folder: Path) -> None:
        self.python = str(Path(python).absolute())
        self.folder = folder
        (folder / "models").mkdir(parents=True)

    def start(self, action: str, number: int) -> subprocess.Popen[str]:
        """Start a process that waits for the signal to go."""
        process = subprocess.Popen(
            [self.python, "-c", SETUP, str(self.folder), action, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # An audmodel in the current folder would be found first
            cwd=self.folder,
        )
        assert process.stdout is not None
        process.stdout.readline()
        return process

    def run(self, action: str, number: int = 0) -> tuple[int, str]:
        """Run an action, give its status and what it printed."""
        process = self.start(action, number)
        output, _ = process.communicate("\n")
        return process.returncode, output.strip()

    def race(self, action: str, numbers: range) -> list[int]:
        """Run an action in several processes, give those that succeeded."""
        processes = [(number, self.start(action, number)) for number in numbers]
        for _, process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        return [number for number, process in processes if not process.wait()]

    def contents(self, numbers: range) -> None:
        """Make a model folder for each publisher."""
        for number in numbers:
            root = self.folder / "content" / str(number)
            root.mkdir(parents=True)
            # What does not compress takes as long to write as weights
            content = random.Random(number).randbytes(8_000_000)
            (root / "model.bin").write_bytes(f"{number:08}".encode() + content)

    def record(self, suffix: str) -> Path:
        """Place of a record in the repository."""
        (path,) = self.folder.glob(f"models/_uid/*/1.0.0/*{suffix}")
        return path


def race_of_publishers(python: str, folder: Path, rounds: int) -> str:
    whole = 0
    for number in range(rounds):
        peer = Peer(python, folder / f"publish-{number}")
        publishers = range(4)
        peer.contents(publishers)
        winners = peer.race("publish", publishers)
        _, served = peer.run("load", 99)
        whole += [f"{winner:08}" for winner in winners] == [served]
    return f"{whole} of {rounds} times"


def race_of_updates(python: str, folder: Path) -> str:
    peer = Peer(python, folder / "meta")
    peer.contents(range(1))
    peer.run("publish")
    peer.race("meta", range(16))
    return f"{peer.run('fields', 99)[1]} of 16 fields"


def hostile_header(python: str, folder: Path) -> str:
    peer = Peer(python, folder / "header")
    peer.contents(range(1))
    peer.run("publish")
    proof = folder / "called"
    path = peer.record("header.yaml")
    path.write_text(f"!!python/object/apply:os.mkdir ['{proof}']\n")
    peer.run("header", 99)
    return "called" if proof.exists() else "refused"


def hostile_alias(python: str, folder: Path) -> str:
    peer = Peer(python, folder / "alias")
    path = peer.folder / "models/_alias/link/1.0.0/link-1.0.0.alias.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("uid: ../../escape/x-1.0.0\n")
    peer.run("alias", 99)
    return "written outside" if (peer.folder / "escape").exists() else "refused"


def killed_publishers(python: str, folder: Path, rounds: int) -> str:
    chance = random.Random(0)
    blocked = 0
    for number in range(rounds):
        peer = Peer(python, folder / f"kill-{number}")
        peer.contents(range(2))
        process = peer.start("publish", 0)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.wait()
        status, _ = peer.run("publish", 1)
        expected = "00000001" if status == 0 else "00000000"
        blocked += peer.run("load", 99)[1] != expected
    return f"{rounds - blocked} of {rounds} times"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="one round")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    rows: dict[str, list[str]] = {}
    for python in (released_python(), sys.executable):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for what, outcome in (
                (
                    "4 publishers: the winner's content is served",
                    race_of_publishers(python, folder, rounds),
                ),
                (
                    "16 updates of metadata are kept",
                    race_of_updates(python, folder),
                ),
                ("A function in a header", hostile_header(python, folder)),
                ("A path in an alias", hostile_alias(python, folder)),
                (
                    "After a killed publisher, a whole model is there",
                    killed_publishers(python, folder, rounds),
                ),
            ):
                rows.setdefault(what, []).append(outcome)
    print(f"| What | {RELEASED} | {OURS} |\n|---|---|---|")
    for what, outcomes in rows.items():
        print(f"| {what} | {' | '.join(outcomes)} |")


if __name__ == "__main__":
    main()
