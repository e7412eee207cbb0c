"""Models to publish and to load."""

from __future__ import annotations

import filecmp
import os
from pathlib import Path

import numpy as np


MB = 1_000_000
DTYPES = {"float32": 4, "bfloat16": 2}
_CHUNK = 16 * MB


def make_weights(
    root: Path, size: int, dtype: str = "float32", shards: int = 1
) -> Path:
    """Model of random weights, divided into files of equal size."""
    root.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for shard in range(shards):
        name = "weights.bin" if shards == 1 else f"weights-{shard:03}.bin"
        with (root / name).open("wb") as file:
            left = size // shards // DTYPES[dtype]
            while left:
                count = min(left, _CHUNK)
                weights = 0.02 * generator.standard_normal(count, dtype=np.float32)
                if dtype == "bfloat16":
                    # The upper half of the bits of a float32
                    weights = (weights.view(np.uint32) >> 16).astype(np.uint16)
                file.write(weights.tobytes())
                left -= count
    return _describe(root)


def make_small_files(root: Path, count: int, size: int) -> Path:
    """Model of many files, half of whose bytes are random."""
    for number in range(count):
        path = root / f"{number // 500:03}" / f"{number:06}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = os.urandom(size // 2)
        path.write_bytes(noise + (b"weights " * size)[: size - len(noise)])
    return _describe(root)


def size_of(root: Path) -> int:
    """Bytes of all files of a model."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def check_same(root: Path, other: Path) -> None:
    """Raise an error if a file of a model is not there, or not the same."""
    for path in root.rglob("*"):
        if path.is_file():
            copy = other / path.relative_to(root)
            if not filecmp.cmp(path, copy, shallow=False):
                raise RuntimeError(f"{copy} is not what was published")


def _describe(root: Path) -> Path:
    (root / "model.yaml").write_text("input: melspec\noutput: emotion\n")
    return root
