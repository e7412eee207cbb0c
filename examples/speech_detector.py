# /// script
# requires-python = ">=3.11"
# dependencies = ["audmodel>=2.0", "numpy>=2.0"]
#
# [tool.uv.sources]
# audmodel = { path = "..", editable = true }
# ///
"""Detect speech in clips of many callers, in batches.

The detector simulates a network on a GPU:
each call takes some time, even for a single clip.
A batch of one clip takes 25 ms, and a batch of 24 clips takes 140 ms.
So 24 callers that send a clip at the same time have a result after about 140 ms,
also if a batch could hold twice as many clips.

Run it with ``uv run examples/speech_detector.py``.

"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
import time

import numpy as np
import numpy.typing as npt

from audmodel.parallel import BaseTask
from audmodel.parallel import BaseTaskHandler
from audmodel.parallel import Flow
from audmodel.parallel import FlowStep


NUM_CALLERS = 24
SECONDS_PER_CALL = 0.02
SECONDS_PER_CLIP = 0.005
SECONDS_PER_BATCH = SECONDS_PER_CALL + NUM_CALLERS * SECONDS_PER_CLIP

Samples = npt.NDArray[np.float32]


class Clip(BaseTask):
    """One second of sound, and whether it is speech."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self.is_speech: bool | None = None


class SpeechDetector(BaseTaskHandler):
    """Detects speech in clips that are loud enough."""

    def on_start(self) -> None:
        """Prepare the handler. A real one loads its model here."""
        self.threshold = 0.1

    def handle(self, *clips: Clip) -> None:
        """Set the result of each clip in a batch."""
        loudness = self.forward(np.stack([clip.samples for clip in clips]))
        for clip, value in zip(clips, loudness):
            clip.is_speech = bool(value > self.threshold)

    def forward(self, batch: Samples) -> Samples:
        """Loudness of each clip."""
        time.sleep(SECONDS_PER_CALL + len(batch) * SECONDS_PER_CLIP)
        loudness: Samples = np.sqrt(np.mean(batch**2, axis=1))
        return loudness


async def answer_all(clips: Sequence[Clip], batch_size: int) -> float:
    """Seconds until all clips have a result."""
    async with Flow(FlowStep(SpeechDetector(), batch_size=batch_size)) as flow:
        start = time.perf_counter()
        await asyncio.gather(*(flow.process(clip) for clip in clips))
        return time.perf_counter() - start


async def main() -> None:
    generator = np.random.default_rng(0)
    noise = generator.uniform(-0.5, 0.5, (NUM_CALLERS, 16000)).astype("float32")
    noise[::2] *= 0.01
    for batch_size in (NUM_CALLERS, 2 * NUM_CALLERS, 1):
        clips = [Clip(samples) for samples in noise]
        assert all(clip.is_speech is None for clip in clips)
        seconds = await answer_all(clips, batch_size)
        assert [clip.is_speech for clip in clips] == [False, True] * (NUM_CALLERS // 2)
        print(f"batches of up to {batch_size:2}: {seconds:.3f} s")


if __name__ == "__main__":
    asyncio.run(main())
