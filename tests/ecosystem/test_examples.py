"""Examples do what they say."""

from __future__ import annotations

import os
from pathlib import Path
import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile
import soxr

from audmodel import parallel
from examples import audio_chunks
from tests.conftest import ROOT


def run_example(name: str, *args: str) -> str:
    result = subprocess.run(
        [sys.executable, ROOT / "examples" / f"{name}.py", *args],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def test_spectrograms() -> None:
    output = run_example(
        "spectrograms", "--recordings", "7", "--seconds", "1", "--processes", "3"
    )
    assert "7 spectrograms, the same both times" in output


def test_speech_detector() -> None:
    # Other programs may keep the machine busy
    for _ in range(3):
        output = run_example("speech_detector")
        times = dict(re.findall(r"batches of up to +(\d+): (\d\.\d+) s", output))
        assert list(times) == ["24", "48", "1"]
        # 24 clips at once, whether or not they fill their batch
        if all(0.14 <= float(times[size]) <= 0.17 for size in ("24", "48")):
            break
    else:
        pytest.fail(f"slower than a batch: {times}")
    assert float(times["1"]) >= 0.6


def test_audio_chunks() -> None:
    output = run_example("audio_chunks", "--seconds", "11")
    # Of three recordings, the last second in a window of its own
    assert output.count("9 windows") == 3
    assert output.count("80000 samples") == 4


def test_scale_out() -> None:
    output = run_example("scale_out", "--inputs", "101")
    assert "101 inputs in" in output
    assert "on 2 workers" in output


def test_serve_onnx() -> None:
    output = run_example("serve_onnx", "--requests", "200")
    assert "published " in output
    for batch_size in (1, 8, 32):
        assert re.search(rf"batch size +{batch_size}: +\d+ requests", output)


# The audio loader ----------------------------------------------------------


@pytest.fixture
def recordings(tmp_path: Path) -> list[str]:
    """Recordings of noise with different sampling rates and channels."""
    generator = np.random.default_rng(0)
    paths = []
    for name, rate, channels, seconds in [
        ("b/long.wav", 44100, 2, 2.5),
        ("a/short.wav", 8000, 1, 0.4),
        ("c/same.wav", 16000, 1, 2.0),
    ]:
        path = tmp_path / name
        path.parent.mkdir()
        noise = generator.uniform(-0.5, 0.5, size=(int(seconds * rate), channels))
        soundfile.write(path, noise, rate, subtype="FLOAT")
        paths.append(str(path))
    return sorted(paths)


def test_no_recording(tmp_path: Path) -> None:
    chunks = audio_chunks.audio_chunk_dataloader_threaded(
        str(tmp_path / "*.wav"), 16000, 1.0
    )
    with pytest.raises(FileNotFoundError, match=r"No file matches '.*\*.wav'"):
        next(chunks)


def test_broken_recording_comes_in_its_place(
    recordings: list[str],
    tmp_path: Path,
) -> None:
    (tmp_path / "b" / "broken.wav").write_bytes(b"RIFF")
    chunks = audio_chunks.audio_chunk_dataloader_threaded(
        str(tmp_path / "**" / "*.wav"), 16000, 1.0
    )
    assert next(chunks)[1] == recordings[0]
    with pytest.raises(soundfile.LibsndfileError, match="broken"):
        next(chunks)


@pytest.mark.parametrize("max_workers", [1, 3])
def test_windows_fit_together(
    recordings: list[str],
    tmp_path: Path,
    max_workers: int,
) -> None:
    chunks = list(
        audio_chunks.audio_chunk_dataloader_threaded(
            str(tmp_path / "**" / "*.wav"), 16000, 0.75, max_workers=max_workers
        )
    )
    assert [(file, offset) for _, file, offset in chunks] == [
        (recordings[0], 0.0),
        *((recordings[1], 0.75 * index) for index in range(4)),
        *((recordings[2], 0.75 * index) for index in range(3)),
    ]
    assert {window.shape for window, _, _ in chunks} == {(12000,)}
    for path in recordings:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        expected = soxr.resample(samples.mean(axis=1), rate, 16000)
        signal = np.concatenate([window for window, file, _ in chunks if file == path])
        np.testing.assert_allclose(signal[: len(expected)], expected, atol=1e-3)
        assert not signal[len(expected) :].any()


def test_shuffle_is_always_the_same(recordings: list[str], tmp_path: Path) -> None:
    orders = []
    for _ in range(2):
        chunks = audio_chunks.audio_chunk_dataloader_threaded(
            str(tmp_path / "**" / "*.wav"), 16000, 5.0, shuffle=True
        )
        orders.append([file for _, file, _ in chunks])
    assert orders[0] == orders[1] != recordings
    assert sorted(orders[0]) == recordings


def test_slow_model_has_a_bounded_backlog(
    recordings: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lock = threading.Lock()
    loaded = taken = most = 0
    load_window = audio_chunks.load_window

    def count(*args: object) -> audio_chunks.Window:
        nonlocal loaded, most
        with lock:
            loaded += 1
            most = max(most, loaded - taken)
        return load_window(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(audio_chunks, "load_window", count)
    chunks = audio_chunks.audio_chunk_dataloader_threaded(
        str(tmp_path / "**" / "*.wav"), 16000, 0.1, max_workers=2
    )
    for _ in chunks:
        with lock:
            taken += 1
        time.sleep(0.001)
    assert taken == 25 + 4 + 20
    assert 1 < most <= 4


# The package ---------------------------------------------------------------


def test_public_names() -> None:
    assert set(parallel.__all__) == {
        "BaseTask",
        "BaseTaskHandler",
        "Flow",
        "FlowStep",
        "MultiWorker",
        "NotRunningError",
        "ReductionComposition",
        "average_reduction",
        "bitwise_and_reduction",
        "bitwise_or_reduction",
        "flatten_reduction",
        "histogram_reduction",
        "max_reduction",
        "min_reduction",
        "prefetch",
        "product_reduction",
        "string_concatenation_reduction",
        "sum_reduction",
        "worker_number",
    }


def test_import_loads_nothing_heavy() -> None:
    heavy = "asyncio multiprocessing concurrent.futures numpy tqdm audeer inspect"
    script = (
        "import sys; import audmodel; before = set(sys.modules);"
        "import audmodel.parallel;"
        f"print(*(set(sys.modules) - before) & set({heavy.split()!r}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == ""
