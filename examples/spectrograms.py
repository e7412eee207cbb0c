# /// script
# requires-python = ">=3.11"
# dependencies = ["audmodel>=2.0", "numpy>=2.0", "soundfile>=0.12"]
#
# [tool.uv.sources]
# audmodel = { path = "..", editable = true }
# ///
"""Compute the spectrograms of many recordings on all cores.

``write_spectrograms`` is an ordinary function over a list of files.
It needs no change to run on several processes.

Run it with ``uv run examples/spectrograms.py``.
The recordings are made for the occasion,
in a temporary folder that is removed in the end.

"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
import tempfile
import time
from typing import Any

import numpy as np
import soundfile

from audmodel.parallel import MultiWorker


def write_spectrograms(files: list[Path], folder: Path, frame: int, hop: int) -> None:
    window = np.hanning(frame).astype("float32")
    for file in files:
        samples, _ = soundfile.read(file, dtype="float32")
        frames = np.lib.stride_tricks.sliding_window_view(samples, frame)[::hop]
        magnitudes = np.abs(np.fft.rfft(frames * window))
        np.save(folder / f"{file.stem}.npy", np.log(magnitudes + 1e-6))


def make_recordings(folder: Path, number: int, seconds: float) -> list[Path]:
    generator = np.random.default_rng(0)
    files = [folder / f"recording-{index:04}.wav" for index in range(number)]
    for file in files:
        soundfile.write(file, generator.uniform(-0.5, 0.5, int(seconds * 16000)), 16000)
    return files


def measure(function: Callable[..., Any], *args: Any) -> float:
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="Spectrograms on all cores.")
    parser.add_argument("--recordings", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as root:
        recordings, one, several = (Path(root) / name for name in ("wav", "1", "n"))
        for folder in (recordings, one, several):
            folder.mkdir()
        files = make_recordings(recordings, options.recordings, options.seconds)

        seconds = measure(write_spectrograms, files, one, 512, 160)
        print(f"in this process:    {seconds:6.2f} s")
        with MultiWorker(
            write_spectrograms, n_processes=options.processes
        ) as write_in_parallel:
            seconds = measure(write_in_parallel, files, several, 512, 160)
        print(f"in {options.processes} processes:     {seconds:6.2f} s")

        for path in one.iterdir():
            assert path.read_bytes() == (several / path.name).read_bytes(), path.name
        print(f"{len(list(several.iterdir()))} spectrograms, the same both times")


if __name__ == "__main__":
    main()
