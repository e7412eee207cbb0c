"""Numbers and arrays of NumPy that earlier releases stored become plain values."""

from __future__ import annotations

from collections.abc import Iterator
import datetime
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
import yaml

import audmodel
from audmodel.core.yaml import document
from audmodel.errors import InvalidDocumentError
from tests.behaviour.backends import publish
from tests.processes import Interpreter
from tests.yaml import released_values


ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    "real numbers": np.array([1.5, -2, np.inf]),
    "no values": np.array([], dtype="f8"),
    "no values in rows": np.zeros((3, 0)),
    "no dimension": np.array(5),
    "three dimensions": np.arange(24, dtype="u2").reshape(2, 3, 4),
    "other order": np.asfortranarray(np.arange(24, dtype="i1").reshape(2, 3, 4)),
    "big endian": np.array([1, 2, -3], dtype=">i4"),
    "flags": np.array([True, False]),
    "texts": np.array(["a", "bcd", "", "漢"]),
    "texts in rows": np.array([["a", "bc"], ["", "d"]]),
    "bytes": np.array([b"a", b"\x00b"]),
    "complex numbers": np.array([1 + 2j, -1j], dtype="c8"),
    "half precision": np.array([0.1, 65504], dtype="f2"),
    "objects": np.array([{"a": 1}, None, (1, 2)], dtype=object),
    "days": np.array(["2026-01-01", "1900-02-28", "NaT"], dtype="M8[D]"),
    "years": np.array(["2026", "1969"], dtype="M8[Y]"),
    "months": np.array(["2026-11", "1969-02"], dtype="M8[M]"),
    "weeks": np.array(["2026-01-01"], dtype="M8[W]"),
    "seconds": np.array(["2026-01-01T01:02:03"], dtype="M8[s]"),
    "microseconds": np.array(["2026-01-01T01:02:03.000004"], dtype="M8[us]"),
    "time spans": np.array([1, -5, "NaT"], dtype="m8[ms]"),
}


@pytest.mark.parametrize("value", ARRAYS.values(), ids=ARRAYS)
def test_arrays_become_lists(value: np.ndarray[Any, Any]) -> None:
    loaded = document.load(yaml.dump({"a": value}).encode(), "it")["a"]
    assert loaded == value.tolist()
    assert repr(loaded) == repr(value.tolist())


@pytest.mark.parametrize("value", ARRAYS.values(), ids=ARRAYS)
def test_numbers_become_those_of_python(value: np.ndarray[Any, Any]) -> None:
    for item in value.ravel():
        loaded = document.load(yaml.dump({"a": item}).encode(), "it")["a"]
        expected = item.item() if isinstance(item, np.generic) else item
        assert repr(loaded) == repr(expected)


def test_name_of_older_numpy() -> None:
    text = yaml.dump({"a": np.float64(0.5), "b": np.arange(2)})
    text = text.replace("numpy._core.", "numpy.core.")
    assert document.load(text.encode(), "it") == {"a": 0.5, "b": [0, 1]}


def test_nanoseconds() -> None:
    time = np.datetime64("2026-01-01T00:00:00.000001", "ns")
    data = document.load(yaml.dump({"a": time}).encode(), "it")
    assert data == {"a": datetime.datetime(2026, 1, 1, microsecond=1)}
    with pytest.raises(InvalidDocumentError, match="more precise"):
        document.load(yaml.dump({"a": time + 1}).encode(), "it")


def test_metadata_with_all_kinds_can_be_changed() -> None:
    data = document.load(yaml.dump({"a": list(ARRAYS.values())}).encode(), "it")
    assert document.load(document.dump(data, "it"), "it") == data


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (np.float64(0.5), 0.5),
        (np.int32(5), 5),
        (np.complex64(1j), 1j),
        (np.str_("x"), "x"),
    ],
)
def test_ids_follow_what_is_stored(
    repository: audmodel.Repository, model_folder: Path, value: object, stored: object
) -> None:
    uid = publish(model_folder, params={"x": [value]})
    assert uid == audmodel.uid("torch", {"x": [value]}, "1.0.0")
    assert uid == audmodel.uid("torch", {"x": [stored]}, "1.0.0")
    assert uid == audmodel.uid("torch", audmodel.parameters(uid), "1.0.0")


@pytest.fixture
def released(released_python: Path, tmp_path: Path) -> Iterator[Interpreter]:
    """Processes with the released audmodel that can import NumPy."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for path in Path(np.__file__).parent.parent.glob("numpy*"):
        (folder / path.name).symlink_to(path)
    environment = {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(folder)}
    interpreter = Interpreter(released_python, environment)
    yield interpreter
    interpreter.stop()


scalars = (
    st.sampled_from(["f2", "f4", "f8", "i1", "u8", "c8", "c16", ">f8"]).map(
        lambda kind: np.array([1.5]).astype(kind)[0]
    )
    | st.integers(-(2**63), 2**63 - 1).map(np.int64)
    | st.floats(allow_nan=False, width=32).map(np.float32)
    | st.booleans().map(np.bool_)
    | released_values.texts.map(np.str_)
)
arrays = (
    st.lists(st.floats(allow_nan=False)).map(np.array)
    | st.lists(st.integers(0, 255), min_size=6, max_size=6).map(
        lambda numbers: np.array(numbers, dtype="u1").reshape(2, 3)
    )
    | st.lists(released_values.texts).map(np.array)
)


@released_values.few_batches
@given(cases=released_values.batches(scalars, arrays))
def test_random_models_of_the_release(
    released: Interpreter,
    repository: audmodel.Repository,
    model_folder: Path,
    cases: list[released_values.Case],
) -> None:
    released_values.check_models(released, model_folder, cases)
