# /// script
# requires-python = ">=3.11"
# dependencies = ["audmodel>=2.0"]
#
# [tool.uv.sources]
# audmodel = { path = "..", editable = true }
# ///
"""Publish, load and update a model, set an alias, and see what happens.

Run it from a checkout with ``make demo``,
or with ``uv run examples/quickstart.py``.
It needs no configuration and no network,
and works in a temporary folder that it removes in the end.

"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import random
import tempfile
import time

import audmodel


NAME = "wav2vec2"
SUBGROUP = "speech.emotion"
PARAMS: dict[str, object] = {
    "data": ["emodb", "msppodcast"],
    "layers": 12,
    "sampling_rate": 16000,
}
META: dict[str, object] = {
    "training": {"epochs": 5, "learning_rate": 0.0001},
    "result": {"concordance": 0.71},
}
WORKERS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--size", type=int, default=64, help="size of the weights in MB (64)"
    )
    size = parser.parse_args().size

    with temporary_home() as home:
        # The public repository, which comes second, needs a network
        audmodel.config.REPOSITORIES = audmodel.config.REPOSITORIES[:1]
        demonstrate(home, size)


def demonstrate(home: Path, size: int) -> None:
    title("A model is a folder")
    folder = home / "my-model"
    make_model(folder, size, seed=1)
    show_folder(folder)

    title("Publish it: the first repository is a folder in your home")
    call("audmodel.publish('my-model', name, params, '1.0.0', meta=..., num_workers=4)")
    with clock() as elapsed:
        first = audmodel.publish(
            str(folder),
            NAME,
            PARAMS,
            "1.0.0",
            subgroup=SUBGROUP,
            author="Ada",
            meta=META,
            num_workers=WORKERS,
        )
    answer(first)
    say(f"This took {elapsed()}. Name, parameters and subgroup make the ID.")
    say("The repository now holds")
    show_folder(home / ".local" / "share" / "audmodel")

    title("Load it: a verified copy in the cache")
    call(f"audmodel.load('{first}', num_workers=4)")
    with clock() as elapsed:
        root = audmodel.load(first, num_workers=WORKERS)
    answer(shorten(root, home))
    say(f"This took {elapsed()}. The folder holds")
    show_folder(Path(root))
    with clock() as elapsed:
        audmodel.load(first)
    say(f"Loading it again finds it in the cache, in {elapsed()}.")
    if not same_content(folder, Path(root)):
        raise SystemExit("The loaded model differs from the published one.")
    say("Every file in it is what was published.")

    title("Give it a name people remember")
    call(f"audmodel.set_alias('emotion-production', '{first}')")
    audmodel.set_alias("emotion-production", first)
    call("audmodel.resolve_alias('emotion-production')")
    answer(audmodel.resolve_alias("emotion-production"))

    title("Publish a second version, and move the alias to it")
    make_model(folder, size, seed=2)
    call("audmodel.publish('my-model', ..., '2.0.0', alias='emotion-production')")
    second = audmodel.publish(
        str(folder),
        NAME,
        PARAMS,
        "2.0.0",
        subgroup=SUBGROUP,
        author="Ada",
        meta=META,
        alias="emotion-production",
        num_workers=WORKERS,
    )
    answer(second)
    call(f"audmodel.versions('{second}')")
    answer(audmodel.versions(second))
    call("audmodel.resolve_alias('emotion-production')")
    answer(audmodel.resolve_alias("emotion-production"))
    call(f"audmodel.aliases('{first}')")
    answer(audmodel.aliases(first))
    call("audmodel.load('emotion-production', num_workers=4)")
    answer(shorten(audmodel.load("emotion-production", num_workers=WORKERS), home))

    title("Metadata can grow later, the model cannot change")
    call("audmodel.update_meta('emotion-production', {'result': {'accuracy': 0.74}})")
    audmodel.update_meta("emotion-production", {"result": {"accuracy": 0.74}})
    call("audmodel.meta('emotion-production')")
    answer(audmodel.meta("emotion-production"))
    call("audmodel.publish('my-model', ..., '2.0.0')")
    try:
        audmodel.publish(str(folder), NAME, PARAMS, "2.0.0", subgroup=SUBGROUP)
    except audmodel.errors.ModelExistsError as error:
        answer(f"ModelExistsError: {error}")

    print()
    print("All of this happened in a temporary folder, which is gone now.")
    print("Next: docs/usage.rst explains each step.")


# The model -----------------------------------------------------------------


def make_model(folder: Path, size: int, seed: int) -> None:
    """Write weights that look like those of a network, and what goes with them."""
    (folder / "log").mkdir(parents=True, exist_ok=True)
    (folder / "model.yaml").write_text("architecture: wav2vec2\nlayers: 12\n")
    (folder / "readme.txt").write_text("Recognises emotion in speech.\n")
    (folder / "log" / "eval.yaml").write_text("concordance: 0.71\n")
    source = random.Random(seed)
    with (folder / "weights.bin").open("wb") as file:
        for _ in range(size):
            # Mantissas of trained weights are noise, their exponents are not
            noise = bytearray(source.randbytes(1_000_000))
            noise[3::4] = bytes([0x3C, 0xBC]) * (len(noise) // 8)
            file.write(noise)


def same_content(one: Path, other: Path) -> bool:
    def files(root: Path) -> dict[Path, bytes]:
        return {
            path.relative_to(root): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
        }

    return files(one) == files(other)


# Output --------------------------------------------------------------------


def title(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}")


def say(text: str) -> None:
    print(text)


def call(code: str) -> None:
    print(f">>> {code}")


def answer(value: object) -> None:
    print(value)


def show_folder(root: Path) -> None:
    for path in sorted(root.rglob("*")):
        if path.is_file():
            print(f"    {path.relative_to(root)}  ({human(path.stat().st_size)})")


def human(size: float) -> str:
    for unit in ("bytes", "kB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.0f} MB"


def shorten(path: str, home: Path) -> str:
    return str(path).replace(str(home), "~")


@contextlib.contextmanager
def clock() -> Iterator[Callable[[], str]]:
    """Measure the time that passes inside the block."""
    start = time.perf_counter()
    stop: list[float] = []

    def elapsed() -> str:
        seconds = stop[0] - start
        return f"{seconds:.2f} s" if seconds > 0.01 else f"{seconds * 1e3:.2f} ms"

    yield elapsed
    stop.append(time.perf_counter())


@contextlib.contextmanager
def temporary_home() -> Iterator[Path]:
    """Let the home folder, and so repository and cache, be a temporary one."""
    variables = ("HOME", "USERPROFILE", "AUDMODEL_CACHE_ROOT", "XDG_CONFIG_HOME")
    before = {name: os.environ.pop(name, None) for name in variables}
    with tempfile.TemporaryDirectory(prefix="audmodel-") as folder:
        home = Path(folder).resolve()
        os.environ["HOME"] = os.environ["USERPROFILE"] = str(home)
        try:
            yield home
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


if __name__ == "__main__":
    main()
