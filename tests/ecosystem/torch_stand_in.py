"""What the recipe uses of PyTorch, which is too large for the test environment.

The calls have the names and arguments of those of PyTorch,
and files are laid out as ``torch.save()`` does it:
a ZIP file without compression that holds a pickle, and the bytes of each tensor,
aligned by an extra field.
Tensors are arrays of NumPy.
So a test shows that such files are published, loaded and opened,
and not that PyTorch accepts the recipe.

"""

from __future__ import annotations

from collections.abc import Mapping
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from typing import BinaryIO
import zipfile

import numpy as np
import numpy.typing as npt


State = dict[str, npt.NDArray[np.float32]]


def save(obj: Mapping[str, npt.NDArray[np.float32]], f: str) -> None:
    """Store tensors."""
    top = Path(f).stem
    with zipfile.ZipFile(f, "w") as file:
        shapes = {name: tensor.shape for name, tensor in obj.items()}
        file.writestr(f"{top}/data.pkl", json.dumps(shapes))
        for number, tensor in enumerate(obj.values()):
            info = zipfile.ZipInfo(f"{top}/data/{number}")
            assert file.fp is not None
            start = file.fp.tell() + 30 + len(info.filename) + 4
            padding = -start % 64
            info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
            file.writestr(info, tensor.tobytes())
        file.writestr(f"{top}/byteorder", "little")
        file.writestr(f"{top}/version", "3\n")


def load(f: str | BinaryIO, map_location: str, *, weights_only: bool) -> State:
    """Read tensors from a path or a file."""
    assert (map_location, weights_only) == ("cpu", True)
    with zipfile.ZipFile(f) as file:
        [head] = [name for name in file.namelist() if name.endswith("/data.pkl")]
        top = head.removesuffix("/data.pkl")
        shapes: dict[str, list[int]] = json.loads(file.read(head))
        return {
            name: np.frombuffer(file.read(f"{top}/data/{number}"), "f4").reshape(shape)
            for number, (name, shape) in enumerate(shapes.items())
        }


class Linear:
    """A layer with weights."""

    def __init__(self, in_features: int, out_features: int) -> None:
        generator = np.random.default_rng()
        self._state: State = {
            "weight": generator.normal(size=(out_features, in_features)).astype("f4"),
            "bias": np.zeros(out_features, "f4"),
        }

    def state_dict(self) -> State:
        return self._state

    def load_state_dict(self, state_dict: State) -> Any:
        assert state_dict.keys() == self._state.keys()
        for name, tensor in state_dict.items():
            assert tensor.shape == self._state[name].shape
        self._state = dict(state_dict)
        return "<All keys matched successfully>"

    def eval(self) -> Linear:
        return self


nn = SimpleNamespace(Linear=Linear)
