# /// script
# requires-python = ">=3.11"
# dependencies = ["audmodel>=2.0", "numpy>=2.0"]
#
# [tool.uv.sources]
# audmodel = { path = "..", editable = true }
# ///
"""Find speech in clips of many callers, in batches.

The detector stands in for a network on a GPU:
each call costs time, however few clips it gets.
One clip takes it 25 ms, and 24 clips at once take 140 ms.
So 24 callers who arrive together are answered after 140 ms and little more,
also if their batch could have been twice as large.

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
    """Takes a clip for speech if it is loud enough."""

    def on_start(self) -> None:
        """Get ready, which is the time to load a model."""
        self.threshold = 0.1

    def handle(self, *clips: Clip) -> None:
        """Set the answers of a batch."""
        loudness = self.forward(np.stack([clip.samples for clip in clips]))
        for clip, value in zip(clips, loudness):
            clip.is_speech = bool(value > self.threshold)

    def forward(self, batch: Samples) -> Samples:
        """Loudness of each clip."""
        time.sleep(SECONDS_PER_CALL + len(batch) * SECONDS_PER_CLIP)
        loudness: Samples = np.sqrt(np.mean(batch**2, axis=1))
        return loudness


async def answer_all(clips: Sequence[Clip], batch_size: int) -> float:
    """Seconds until the callers of all clips have their answer."""
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
