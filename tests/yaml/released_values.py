"""Models of random values that the released audmodel publishes."""

from __future__ import annotations

import base64
import collections
import datetime
import itertools
from pathlib import Path
import pickle
from typing import Any

from hypothesis import HealthCheck
from hypothesis import Phase
from hypothesis import settings
from hypothesis import strategies as st

import audmodel
from tests.behaviour.backends import files
from tests.processes import Interpreter


Case = tuple[dict[str, Any], dict[str, Any]]

PUBLISH = """
    import base64, pickle
    place = audmodel.config.REPOSITORIES[0]
    def packed(value):
        return base64.b64encode(pickle.dumps(value)).decode()
    results = []
    for number, case in enumerate(args["cases"]):
        params, meta = pickle.loads(base64.b64decode(case))
        try:
            uid = audmodel.publish(
                args["root"], f"m{args['number']}-{number}", params, "1.0.0",
                author="tester", meta=meta, repository=place,
            )
        except Exception:
            continue
        try:
            params, meta = audmodel.parameters(uid), audmodel.meta(uid)
        except Exception:
            params = meta = None
        results.append((uid, packed((params, meta))))
    return results
"""


few_batches = settings(
    max_examples=4,
    deadline=None,
    # Processes are slow
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
_numbers = itertools.count()


def check_models(interpreter: Interpreter, root: Path, cases: list[Case]) -> None:
    """Let the release publish models, and find the same values in them as it does."""
    results = interpreter.run(
        PUBLISH,
        root=str(root),
        number=next(_numbers),
        cases=[base64.b64encode(pickle.dumps(case)).decode() for case in cases],
    )
    for uid, answer in results:
        params, meta = pickle.loads(base64.b64decode(answer))
        assert files(audmodel.load(uid)) == files(root)
        assert audmodel.author(uid) == "tester"
        if params is not None:  # else the release itself cannot read it
            assert audmodel.parameters(uid) == plain(params)
            assert audmodel.meta(uid) == plain(meta)


def plain(value: Any) -> Any:
    """The same values without NumPy, and kinds of collections that are equal."""
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | collections.deque):
        return [plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, set | frozenset):
        return type(value)(plain(item) for item in value)
    return bytes(value) if isinstance(value, bytearray) else value


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_zones = st.none() | st.integers(-1439, 1439).map(
    lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes))
)
_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | texts
    | st.binary(max_size=20)
    | st.dates()
    | st.datetimes(timezones=_zones).map(lambda time: time.replace(fold=0))
    | st.times(timezones=_zones).map(lambda time: time.replace(fold=0))
    | st.timedeltas()
    | _zones
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.uuids()
    | st.lists(st.sampled_from(["a", "b.c", "ä", "x y"])).map(lambda p: Path(*p))
)


_NOTHING: st.SearchStrategy[Any] = st.nothing()


def batches(
    scalars: st.SearchStrategy[Any] = _NOTHING,
    leaves: st.SearchStrategy[Any] = _NOTHING,
) -> st.SearchStrategy[list[Case]]:
    """Parameters and metadata of several models.

    Args:
        scalars: more values, which can be keys as well
        leaves: more values, which cannot

    """
    keys = _scalars | scalars
    values = st.recursive(
        keys | leaves,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.lists(inner, max_size=4).map(tuple)
            | st.lists(inner, max_size=4).map(collections.deque)
            | st.dictionaries(texts, inner, max_size=4)
            | st.dictionaries(texts, inner, max_size=4).map(collections.OrderedDict)
            | st.dictionaries(keys, inner, max_size=3)
            | st.sets(keys, max_size=4)
            | st.frozensets(keys, max_size=4)
        ),
        max_leaves=12,
    )
    documents = st.dictionaries(texts, values, max_size=5)
    return st.lists(st.tuples(documents, documents), min_size=5, max_size=12)
