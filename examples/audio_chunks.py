# /// script
# requires-python = ">=3.11"
# dependencies = ["audmodel>=2.0", "numpy>=2.0", "soundfile>=0.12", "soxr>=0.5"]
#
# [tool.uv.sources]
# audmodel = { path = "..", editable = true }
# ///
"""Feed windows of audio recordings to a model without stalling it.

Threads read and resample the next windows
while the model is busy with the current one,
but never more than a few of them,
however slow the model is and however long the recordings are.

Run it with ``uv run examples/audio_chunks.py``.
The recordings are made for the occasion,
in a temporary folder that is removed in the end.

"""

from __future__ import annotations

import argparse
from collections.abc import Generator
from collections.abc import Iterator
import glob
import math
import os
import random
import tempfile
import time

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from audmodel.parallel import prefetch


Window = npt.NDArray[np.float32]
Chunk = tuple[Window, str, float]

# Source samples that a resampler sees on each side of a window,
# so that windows fit together without a seam
CONTEXT = 2048


def audio_chunk_dataloader_threaded(
    file_glob: str,
    target_sample_rate: int,
    window_size_s: float,
    shuffle: bool = False,
    max_workers: int = 2,
) -> Generator[Chunk, None, None]:
    """Windows of all audio files that match a pattern.

    Args:
        file_glob: pattern of the files, ``**`` stands for any folders
        target_sample_rate: sampling rate of the windows in Hz
        window_size_s: length of the windows in seconds.
            The last one of a file is filled up with zeros
        shuffle: if ``True`` shuffle the files, always in the same way
        max_workers: number of threads that load windows.
            Twice as many windows are loaded ahead at most

    Yields:
        window of one channel, file, and offset of the window in seconds

    Raises:
        FileNotFoundError: if no file matches

    """
    files = sorted(glob.glob(file_glob, recursive=True))
    if not files:
        raise FileNotFoundError(f"No file matches {file_glob!r}.")
    if shuffle:
        random.Random(0).shuffle(files)

    def offsets() -> Iterator[tuple[str, float]]:
        # Only headers are read here, one file at a time
        for file in files:
            duration = soundfile.info(file).duration
            for index in range(math.ceil(duration / window_size_s)):
                yield file, index * window_size_s

    def load(place: tuple[str, float]) -> Chunk:
        file, offset = place
        window = load_window(file, offset, target_sample_rate, window_size_s)
        return window, file, offset

    yield from prefetch(load, offsets(), num_workers=max_workers)


def load_window(
    file: str,
    offset: float,
    sample_rate: int,
    window_size_s: float,
) -> Window:
    with soundfile.SoundFile(file) as audio:
        # Whole multiples of this many samples stay whole when resampled
        unit = audio.samplerate // math.gcd(audio.samplerate, sample_rate)
        start = round(offset * audio.samplerate)
        first = max(0, start - CONTEXT) // unit * unit
        stop = start + math.ceil(window_size_s * audio.samplerate) + CONTEXT
        audio.seek(first)
        samples = audio.read(stop - first, dtype="float32", always_2d=True)
        resampled = soxr.resample(samples.mean(axis=1), audio.samplerate, sample_rate)
        skip = round(offset * sample_rate) - first * sample_rate // audio.samplerate
    window = np.zeros(round(window_size_s * sample_rate), dtype=np.float32)
    part = resampled[skip : skip + len(window)]
    window[: len(part)] = part
    return window


def make_recordings(folder: str, seconds: float) -> None:
    for number, (rate, channels) in enumerate([(44100, 1), (16000, 2), (22050, 1)]):
        time_s = np.arange(int(seconds * rate)) / rate
        tone = 0.5 * np.sin(2 * np.pi * 220 * (number + 1) * time_s)
        path = os.path.join(folder, f"site-{number}", "recording.wav")
        os.makedirs(os.path.dirname(path))
        soundfile.write(path, np.column_stack([tone] * channels), rate)


def main() -> None:
    parser = argparse.ArgumentParser(description="Feed audio windows to a model.")
    parser.add_argument("--seconds", type=float, default=62.0)
    arguments = parser.parse_args()
    target_sample_rate = 16000
    window_size_s = 5.0

    with tempfile.TemporaryDirectory() as folder:
        make_recordings(folder, arguments.seconds)
        file_glob = os.path.join(folder, "**", "*.wav")

        dataloader = audio_chunk_dataloader_threaded(
            file_glob,
            target_sample_rate,
            window_size_s,
            shuffle=True,
        )
        for number, (window, file, offset) in enumerate(dataloader):
            name = os.path.relpath(file, folder)
            print(f"Loaded {name} at {offset:.2f} s: {len(window)} samples")
            if number == 3:
                # Leaving the loop ends the threads
                break

        for max_workers in (1, 2, 4):
            start = time.perf_counter()
            count = 0
            for _ in audio_chunk_dataloader_threaded(
                file_glob,
                target_sample_rate,
                window_size_s,
                max_workers=max_workers,
            ):
                # The model
                time.sleep(0.005)
                count += 1
            seconds = time.perf_counter() - start
            print(f"max_workers={max_workers}: {count} windows in {seconds:.2f} s")


if __name__ == "__main__":
    main()
