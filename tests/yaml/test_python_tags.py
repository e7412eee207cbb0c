"""Values that earlier releases wrote with tags of Python come back as data."""

from __future__ import annotations

import collections
import datetime
import json
from pathlib import Path
import sys

from hypothesis import given
import pytest
import yaml

import audmodel
from audmodel.cli.output import to_json
from audmodel.core.yaml import document
from audmodel.errors import InvalidDocumentError
from tests.behaviour.backends import files
from tests.processes import Interpreter
from tests.yaml import released_values


@pytest.mark.parametrize(
    ("value", "loaded"),
    [
        (collections.OrderedDict(b=1, a=(2,)), {"b": 1, "a": (2,)}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.defaultdict(None), {}),
        (collections.Counter("abb"), {"a": 1, "b": 2}),
        (collections.deque([1, 2], 3), [1, 2]),
        (collections.deque(), []),
        (frozenset({1, (2, 3)}), frozenset({1, (2, 3)})),
        (frozenset(), frozenset()),
        (bytearray(b"\x00\xff"), b"\x00\xff"),
        (bytearray(), b""),
    ],
    ids=repr,
)
def test_other_kinds_become_plain(value: object, loaded: object) -> None:
    data = document.load(yaml.dump({"a": value}, sort_keys=False).encode(), "it")
    assert repr(data["a"]) == repr(loaded)


# Without NumPy ---------------------------------------------------------------


NUMPY = """
a: !!python/object/apply:numpy.core.multiarray.scalar
- &id001 !!python/object/apply:numpy.dtype
  args: [f8, false, true]
  state: !!python/tuple [3, <, null, null, null, -1, -1, 0]
- !!binary AAAAAAAA4D8=
b: !!python/object/apply:numpy._core.multiarray.scalar
- *id001
- !!binary AAAAAAAA4D8=
c: !!python/object/apply:numpy._core.multiarray._reconstruct
  args:
  - !!python/name:numpy.ndarray ''
  - !!python/tuple [0]
  - !!binary Yg==
  state: !!python/tuple
  - 1
  - !!python/tuple [2, 1]
  - *id001
  - false
  - !!binary AAAAAAAA+D8AAAAAAAAAQA==
d: *id001
"""


def test_numbers_of_numpy() -> None:
    data = document.load(NUMPY.encode(), "it")
    assert data == {"a": 0.5, "b": 0.5, "c": [[1.5], [2.0]], "d": "<f8"}
    assert type(data["a"]) is float


# The real release ------------------------------------------------------------


@released_values.few_batches
@given(cases=released_values.batches())
def test_random_models_of_the_release(
    released: Interpreter,
    repository: audmodel.Repository,
    model_folder: Path,
    cases: list[released_values.Case],
) -> None:
    released_values.check_models(released, model_folder, cases)


MODULE = """
import enum
class Colour(enum.Enum):
    RED = 1
class Level(enum.IntEnum):
    HIGH = 3
def function():
    pass
"""


def test_what_cannot_be_decoded_does_not_stop_a_load(
    released_python: Path,
    repository: audmodel.Repository,
    model_folder: Path,
    tmp_path: Path,
) -> None:
    code = """
        import mine
        uids = []
        for number, value in enumerate(
            [mine.Colour.RED, mine.Level.HIGH, mine.function, int, range(3)]
        ):
            uids.append(audmodel.publish(
                args["root"], f"m{number}", {"value": value}, "1.0.0",
                author="tester", alias=f"a{number}", subgroup="s",
                repository=audmodel.config.REPOSITORIES[0],
            ))
        return uids
    """
    (tmp_path / "mine.py").write_text(MODULE)
    environment = {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(tmp_path)}
    interpreter = Interpreter(released_python, environment)
    uids = interpreter.run(code, root=str(model_folder))
    for number, uid in enumerate(uids):
        assert files(audmodel.load(f"a{number}")) == files(model_folder)
        assert audmodel.name(uid) == f"m{number}"
        assert audmodel.author(uid) == "tester"
        assert audmodel.subgroup(uid) == "s"
        assert audmodel.meta(uid) == {}
        assert audmodel.exists(uid)
        for function in (audmodel.parameters, audmodel.header):
            with pytest.raises(
                InvalidDocumentError, match=r"parameters .* files can be loaded"
            ):
                function(uid)
    with pytest.warns(UserWarning, match="parameters") as warnings:
        assert audmodel.models() == []
    assert len(warnings) == len(uids)
    assert "mine" not in sys.modules


def test_values_on_the_command_line() -> None:
    values = [Path("a/b"), datetime.timedelta(1), datetime.time(1), 1j]
    assert json.loads(to_json(values)) == ["a/b", "1 day, 0:00:00", "01:00:00", "1j"]
