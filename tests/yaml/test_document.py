"""YAML is data: nothing is constructed, nothing grows, nothing is lost."""

from __future__ import annotations

import base64
import collections
from collections.abc import Callable
import datetime
import decimal
import enum
import fractions
import math
import numbers
from pathlib import Path
from pathlib import PurePosixPath
from pathlib import PureWindowsPath
import sys
import time
import types
from typing import Any
import uuid

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest
import yaml

import audmodel
from audmodel.core.yaml import document
from audmodel.errors import InvalidDocumentError
from audmodel.errors import InvalidInputError
from tests.behaviour.backends import content
from tests.behaviour.backends import publish
from tests.behaviour.backends import store


HOSTILE = {
    "call": b"!!python/object/apply:os.system ['touch evil']",
    "call of a value": b"a: !!python/object/apply:os.system ['touch evil']",
    "call of a key": b"? !!python/object/apply:os.system ['touch evil']\n: 1",
    "call in a list": b"a: [1, {b: !!python/object/apply:os.system ['touch evil']}]",
    "new": b"a: !!python/object/new:subprocess.Popen [['touch', 'evil']]",
    "object": b"a: !!python/object:collections.Counter {a: 1}",
    "name": b"a: !!python/name:os.system ''",
    "function of the library": b"!!python/name:audmodel.core.api.header ''",
    "module": b"a: !!python/module:os ''",
    "long tag": b"a: !<tag:yaml.org,2002:python/object/apply:os.system> ['touch evil']",
    "tag by a handle": b"%TAG ! tag:yaml.org,2002:python/\n---\na: !name:os.system ''",
    "object that is called with a value": b"a: !!python/object/apply:m.Colour [1]",
    "class": b"a: !!python/name:numpy.ndarray ''",
    "array of another class": b"a: !!python/object/apply:"
    b"numpy.core.multiarray._reconstruct {args: [!!python/name:builtins.list ''],"
    b" state: [1, [1], '|b1', false, !!binary AQ==]}",
    "array of empty lists": b"a: !!python/object/apply:"
    b"numpy.core.multiarray._reconstruct {args: [!!python/name:numpy.ndarray ''],"
    b" state: [1, [1000000000, 0], '|b1', false, !!binary '']}",
    "array of empty texts": b"a: !!python/object/apply:"
    b"numpy.core.multiarray._reconstruct {args: [!!python/name:numpy.ndarray ''],"
    b" state: [1, [1000000000], '|S0', false, !!binary '']}",
    "array of many dimensions": b"a: !!python/object/apply:"
    b"numpy.core.multiarray._reconstruct {args: [!!python/name:numpy.ndarray ''],"
    b" state: [1, [" + b"1," * 100 + b"], '|b1', false, !!binary AQ==]}",
    "array with a size that is no number": b"a: !!python/object/apply:"
    b"numpy.core.multiarray._reconstruct {args: [!!python/name:numpy.ndarray ''],"
    b" state: [1, [-1], '|b1', false, !!binary AQ==]}",
    "short array": b"a: !!python/object/apply:"
    b"numpy.core.multiarray._reconstruct {args: [!!python/name:numpy.ndarray ''],"
    b" state: [1, [2], '|b1', false, !!binary AQ==]}",
    "array of objects that are missing": b"a: !!python/object/apply:"
    b"numpy.core.multiarray._reconstruct {args: [!!python/name:numpy.ndarray ''],"
    b" state: [1, [2], '|O8', false, [1]]}",
    "short number": b"a: !!python/object/apply:numpy.core.multiarray.scalar"
    b" ['<f8', !!binary AQ==]",
    "number of an unknown type": b"a: !!python/object/apply:"
    b"numpy.core.multiarray.scalar ['<f16', !!binary AQ==]",
    "type of an unknown code": b"a: !!python/object/apply:numpy.dtype"
    b" {args: [V8, false, true], state: [3, '|']}",
    "arguments by name": b"a: !!python/object/apply:datetime.timedelta"
    b" {kwds: {days: 1}}",
    "arguments that are no list": b"a: !!python/object/apply:pathlib.PosixPath x",
    "time that is too long": b"a: !!python/object/apply:datetime.timedelta [1.0e+20]",
    "long complex number": b"a: !!python/complex '" + b"1" * 5000 + b"'",
    "long decimal number": b"a: !!python/object/apply:decimal.Decimal ['"
    + b"1" * 5000
    + b"']",
    "fraction that takes all memory": b"a: !!python/object/apply:"
    b"fractions.Fraction [1e999999999]",
    "fraction of another fraction": b"a: !!python/object/apply:"
    b"fractions.Fraction [0.5]",
    "frozen set of numbers of the same hash": b"a: !!python/object/apply:"
    b"builtins.frozenset [[%s]]"
    % b",".join(b"%d" % (n * (2**61 - 1)) for n in range(90_000)),
    "ordered dictionary of numbers of the same hash": b"a: !!python/object/apply:"
    b"collections.OrderedDict [[%s]]"
    % b",".join(b"[%d, 0]" % (n * (2**61 - 1)) for n in range(60_000)),
    "dictionary that calls something": b"a: !!python/object/apply:"
    b"collections.defaultdict {args: [!!python/name:os.abort ''], dictitems: {a: 1}}",
    "python text": b"a: !!python/unicode text",
    "own tag": b"a: !mine text",
    "tag of another language": b"a: !ruby/object:Gem::Installer {}",
    "value key": b"a: {=: !!python/name:os.system ''}",
    "duplicate keys": b"a: 1\na: 2",
    "duplicate keys inside": b"a: {b: 1, c: 2, b: 3}",
    "unknown reference": b"a: *b",
    "reference to itself": b"a: &a [*a]",
    "reference to itself as a key": b"&a {*a: 1}",
    "document that holds itself": b"&a {b: *a}",
    "two documents": b"a: 1\n---\nb: 2",
    "list": b"- 1",
    "text": b"text",
    "number": b"5",
    "long number": b"a: " + b"1" * 5000,
    # What can be read has to be fit to be shown, which Python limits
    "long hexadecimal number": b"a: 0x" + b"f" * 4500,
    "long binary number": b"a: 0b" + b"1" * 100_000,
    "long octal number": b"a: 0" + b"7" * 4900,
    "long number as key": b"? 0x" + b"f" * 4500 + b"\n: 1",
    "long number as its tag says": b"a: !!int '0x" + b"f" * 4500 + b"'",
    # PyYAML needs the square of the length
    "number of many sixties": b"a: " + b":".join([b"1"] * 2_000_000),
    "real number of many sixties": b"a: " + b":".join([b"0"] * 500_000) + b":0.5",
    "long real number": b"a: 0." + b"1" * 100_000,
    "bad date": b"a: 2026-99-99",
    "bad time": b"a: 2026-01-01 99:99:99",
    "tagged as time": b"a: !!timestamp text",
    "tagged as number": b"a: !!int text",
    "tagged as real number": b"a: !!float text",
    "tagged as flag": b"a: !!bool text",
    "tagged as bytes": b"a: !!binary '\xc3\xa4'",
    "sexagesimal": b"a: !!int 1:x",
    "tuple of no list": b"a: !!python/tuple text",
    "list as key": b"? [1, 2]\n: 1",
    "dictionary as key": b"? {a: 1}\n: 1",
    "list in a set": b"a: !!set {[1]: null}",
    "pairs of no pairs": b"a: !!pairs [1]",
    "omap of no list": b"a: !!omap {a: 1}",
    "merge of a number": b"a: {<<: 5}",
    "not closed": b"a: [1, 2",
    "tabs": b"a:\n\t- b",
    "broken escapes": b'a: "\\xZZ"',
    "control characters": b"a: \x01",
    "not unicode": b"a: \xff\xfe",
    "half a UTF-16 pair": b'a: "\\ud800"',
    "binary": bytes(range(256)),
    "deep lists": b"a: " + b"[" * 2000 + b"]" * 2000,
    "deep dictionaries": b"{a: " * 2000 + b"1" + b"}" * 2000,
    "very deep": b"[" * 100_000,
    "laughs": b"\n".join(
        [b"a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
        + [
            b"a%d: &a%d [%s]" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9))
            for n in range(1, 20)
        ]
    ),
    "laughs as dictionaries": b"\n".join(
        [b"a0: &a0 {x: 1}"]
        + [b"a%d: &a%d {x: *a%d, y: *a%d}" % (n, n, n - 1, n - 1) for n in range(1, 60)]
    ),
    "merged laughs": b"\n".join(
        [b"a0: &a0 {k0: 1}"]
        + [
            b"a%d: &a%d {<<: [*a%d, *a%d], k%d: 1}" % (n, n, n - 1, n - 1, n)
            for n in range(1, 40)
        ]
    ),
    "many values": b"a: [" + b"1," * 1_000_000 + b"]",
    "many keys": b"".join(b"k%d: 1\n" % n for n in range(250_000)),
    # Whoever writes them out would run out of memory
    "many references to a long text": b"a: [&a "
    + b"x" * 2_000_000
    + b", *a" * 100_000
    + b"]",
    "many references to a long key": b"a: [&a {"
    + b"x" * 10_000
    + b": 1}"
    + b", *a" * 10_000
    + b"]",
    # libyaml compares each with all before, and lets nobody else run
    "many tag directives": b"".join(b"%%TAG !%x! x\n" % n for n in range(200_000))
    + b"---\na: 1\n",
    "many tag directives in UTF-16": "".join(
        ["\ufeff", *(f"%TAG !{n:x}! x\n" for n in range(80_000)), "---\na: 1\n"]
    ).encode("utf-16-le"),
    "many tag directives in lines of other kinds": "".join(
        f"\ufeff%TAG !{n:x}! x" + "\r\x85\u2028\u2029"[n % 4] for n in range(50_000)
    ).encode()
    + b"---\na: 1\n",
    "many tag directives of the second document": b"a: 1\n...\n"
    + b"".join(b"%%TAG !%x! x\n" % n for n in range(200_000)),
    # A dictionary compares each with all others
    "numbers of the same hash": b"{%s}"
    % b",".join(b"%d: 0" % (n * (2**61 - 1)) for n in range(90_000)),
    "half of the numbers of the same hash": b"{%s}"
    % b",".join(
        b"%d: 0, %d: 0" % (n, n * (2**61 - 1)) for n in range(10**17, 10**17 + 40_000)
    ),
    "set of numbers of the same hash": b"a: !!set {%s}"
    % b",".join(b"%d" % (n * (2**61 - 1)) for n in range(90_000)),
    "tuples of the same hash": b"{%s}"
    % b",".join(
        b"? !!python/tuple [%s] : 0"
        % b",".join(b"-%d" % (1 + (n >> bit & 1)) for bit in range(12))
        for n in range(4096)
    ),
    "large": b"a: '" + b"x" * 5_000_000 + b"'",
    "many anchors": b"".join(
        b"k%d: &a%d [*a%d]\n" % (n, n, n - 1) for n in range(1, 30)
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def harmless_duration() -> float:
    """Seconds of the processor that a document of half a megabyte takes here."""
    start = time.process_time()
    document.load(b"{%s}" % b",".join(b"%d: 0" % n for n in range(50_000)), "'place'")
    return time.process_time() - start


@pytest.mark.sample(8)
@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_documents(
    data: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    harmless_duration: float,
) -> None:
    monkeypatch.chdir(tmp_path)
    start = time.process_time()
    with pytest.raises(InvalidDocumentError) as info:
        document.load(data, "'place'")
    assert time.process_time() - start < 10 * harmless_duration
    assert list(tmp_path.iterdir()) == []
    assert str(info.value).startswith("'place' cannot be read")
    assert len(str(info.value)) < 500
    assert "\n" not in str(info.value)


@pytest.mark.sample(10)
@pytest.mark.parametrize(
    "kind", ["call", "name", "deep lists", "laughs", "large", "duplicate keys"]
)
@pytest.mark.parametrize("record", ["header", "meta", "alias", "list", "configuration"])
def test_hostile_records(
    repository: audmodel.Repository,
    model_folder: Path,
    home: Path,
    kind: str,
    record: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uid = publish(model_folder, alias="best")
    short = uid.split("-")[0]
    monkeypatch.chdir(home)
    if record == "configuration":
        (home / ".config").mkdir()
        (home / ".config" / "audmodel.yaml").write_bytes(HOSTILE[kind])
        vars(audmodel.config).update(dict.fromkeys(vars(audmodel.config)))
        with pytest.raises(audmodel.errors.ConfigurationError, match=r"audmodel\.yaml"):
            audmodel.header(uid)
    else:
        records: dict[str, tuple[str, Callable[[str], object]]] = {
            "header": (f"/_uid/{short}/1.0.0/{uid}.header.yaml", audmodel.header),
            "meta": (f"/_uid/{short}/1.0.0/{uid}.meta.yaml", audmodel.meta),
            "alias": (
                "/_alias/best/1.0.0/best-1.0.0.alias.yaml",
                lambda _: audmodel.resolve_alias("best"),
            ),
            "list": (
                f"/_uid/{short}.aliases/1.0.0/{short}.aliases-1.0.0.yaml",
                audmodel.aliases,
            ),
        }
        path, read = records[record]
        store(repository, path, HOSTILE[kind])
        error: type[Exception] = audmodel.errors.InvalidDocumentError
        if kind == "large":
            error = audmodel.errors.RepositoryError
        with pytest.raises(error):
            read(uid)
    assert not (home / "evil").exists()


# What earlier releases wrote -----------------------------------------------


EARLIER: dict[str, dict[Any, Any]] = {
    "tuple": {"a": (1, (2, "x"))},
    "tuple as key": {("a", 1): 1},
    "set": {"a": {1, 2, 3}},
    "date": {"a": datetime.date(2026, 1, 1)},
    "time": {"a": datetime.datetime(2026, 1, 1, 1, 2, 3, 456)},
    "time with zone": {
        "a": datetime.datetime(
            2026, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=2))
        )
    },
    "bytes": {"a": b"\x00\x01"},
    "numbers": {"a": [0, -1, 1e-2, 1e300, 2**70, True, None]},
    # The longest that Python writes
    "long numbers": {"a": [10**4300 - 1, 1 - 10**4300, 2**4096]},
    "special numbers": {"a": [float("inf"), float("-inf")]},
    "texts": {
        "a": ["", " ", "yes", "1", "1.0", "null", "~", "2026-01-01", "a: b", "#"]
    },
    "lines": {"a": "one\ntwo\n\n  three", "b": "x" * 500 + " " + "y" * 500},
    "unicode": {"ä": "漢字 \N{GRINNING FACE} \x85 \u2028 \ufeff"},
    "keys": {2: "a", 1.5: "b", True: "c", None: "d", datetime.date(2026, 1, 1): "e"},
    "empty": {"a": [], "b": {}, "c": ()},
    "time of a day": {"a": datetime.time(1, 2, 3, 4), "b": datetime.time()},
    "time of a day with zone": {
        "a": datetime.time(1, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    },
    "zone": {"a": datetime.timezone(datetime.timedelta(hours=2), "name")},
    "time span": {"a": datetime.timedelta(-1, 2, 3)},
    "paths": {
        "a": [
            Path("a/b"),
            Path("/a"),
            Path(),
            PurePosixPath("x"),
            PureWindowsPath("c:/x"),
        ]
    },
    "complex numbers": {"a": [1 + 2j, 1j, -0.5 - 1e300j, complex("inf")]},
    "decimal numbers": {"a": [decimal.Decimal("1.50"), fractions.Fraction(1, 3)]},
    "unique ID": {"a": uuid.UUID(int=5)},
    "order": {"z": 1, "a": 2, "m": 3},
}


@pytest.mark.parametrize("data", EARLIER.values(), ids=EARLIER)
def test_what_earlier_releases_wrote(data: dict[str, Any]) -> None:
    written = yaml.dump(data, sort_keys=False).encode()
    loaded = document.load(written, "it")
    assert loaded == data
    assert repr(loaded) == repr(data)
    # And we write the same as all releases did with Python 3.11
    if not (sys.version_info >= (3, 12) and "path" in str(data).lower()):
        assert document.dump(data, "it") == written


def test_repeated_objects_of_earlier_releases() -> None:
    shared = {"x": [1, 2]}
    written = yaml.dump({"a": shared, "b": shared, "c": [shared["x"]]}).encode()
    assert b"&id001" in written
    assert document.load(written, "it") == {"a": shared, "b": shared, "c": [[1, 2]]}


def test_merge_keys() -> None:
    data = document.load(b"a: &a {x: 1}\nb: {<<: *a, y: 2}", "it")
    assert data == {"a": {"x": 1}, "b": {"x": 1, "y": 2}}


@pytest.mark.thorough
def test_many_keys() -> None:
    numbers = ",".join(f"{n}: {n}" for n in range(-5000, 5000))
    names = ",".join(f"k{n}: {n}" for n in range(2000))
    again = [f"a{n}: &a{n} {{{names}}}" for n in range(5)]
    merged = f"b: {{<<: [{', '.join(f'*a{n}' for n in range(5))}], c: 1}}"
    text = "\n".join(["n: {" + numbers + "}", *again, merged])
    data = document.load(text.encode(), "it")
    assert data["n"] == {n: n for n in range(-5000, 5000)}
    assert data["b"] == {**{f"k{n}": n for n in range(2000)}, "c": 1}
    percents = {"a": "%TAG " * 5000, "b": "\n%TAG" * 5000}
    assert document.load(document.dump(percents, "it"), "it") == percents
    values: dict[Any, int] = {n * (2**61 - 1): n for n in range(300)}
    assert document.load(document.dump(values, "it"), "it") == values


@pytest.mark.parametrize("data", [b"", b"\n", b"# comment\n", b"{}", b"{}\n"])
def test_empty_documents(data: bytes) -> None:
    assert document.load(data, "it") == {}


@pytest.mark.parametrize("data", [b"null", b"~", b"---\n"])
def test_nothing(data: bytes) -> None:
    # audmodel 1.x writes it for metadata that was not given
    assert document.load(data, "it") == {}


# What we write -------------------------------------------------------------


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()


Pair = collections.namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (Level.HIGH, 3),
        (True, True),
        (Text("x"), "x"),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (Pair(1, 2), (1, 2)),
        (frozenset({1}), {1}),
    ],
)
def test_values_of_other_types(value: object, stored: object) -> None:
    result = document.load(document.dump({"a": value}, "it"), "it")["a"]
    assert result == stored
    assert type(result) is type(stored)


SECONDS = datetime.timedelta(hours=5, seconds=7)


@numbers.Integral.register
class Seconds:
    """Counts as an integer, and is none without its unit, as those of NumPy."""

    def __int__(self) -> int:
        return 5


@pytest.mark.parametrize(
    "value",
    [
        Colour.RED,
        Seconds(),
        object(),
        bytearray(b"x"),
        range(3),
        (x for x in "abc"),
        Ellipsis,
        "\ud800",
        10**5000,
        # Cannot be told from a text when it is read
        datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone(SECONDS)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_are_refused(value: object) -> None:
    for data in ({"a": value}, {"a": [{"b": value}]}, {"a": (value,)}):
        with pytest.raises(InvalidInputError, match="meta"):
            document.dump(data, "meta")


def test_message_says_where() -> None:
    with pytest.raises(
        InvalidInputError, match=r"meta\['a'\]\['b'\] is of type Colour"
    ):
        document.dump({"a": {"b": Colour.RED}}, "meta")


def test_what_would_be_read_as_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = document.load

    def careless(content: bytes, source: str) -> dict[str, Any]:
        return load(content.replace(b"'1.0'", b"1.0"), source)

    monkeypatch.setattr(document, "load", careless)
    assert document.dump({"a": 1.0}, "meta")
    with pytest.raises(InvalidInputError, match="gives other values"):
        document.dump({"a": "1.0"}, "meta")


def test_not_a_number() -> None:
    result = document.load(document.dump({"a": math.nan}, "it"), "it")
    assert math.isnan(result["a"])


def test_sets_are_written_in_order() -> None:
    data = {"a": {"x", "y", 1, 2.5, None}}
    assert document.dump(data, "it") == document.dump({"a": set(data["a"])}, "it")


def test_large_document_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_BYTES", 100)
    assert document.dump({"a": "x" * 90}, "meta")
    with pytest.raises(InvalidInputError, match="bytes are more than"):
        document.dump({"a": "x" * 100}, "meta")


def test_shared_values_are_written_each() -> None:
    shared = [1]
    data = document.dump({"a": shared, "b": shared}, "it")
    assert b"&" not in data
    assert b"*" not in data


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**80), max_value=2**80)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
    | st.dates()
    | st.datetimes().map(lambda value: value.replace(fold=0)),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
        | st.sets(st.integers())
    ),
    max_leaves=20,
)


@pytest.mark.thorough
@settings(max_examples=50)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), values))
def test_what_is_written_can_be_read(data: dict[str, Any]) -> None:
    written = document.dump(data, "it")
    loaded = document.load(written, "it")
    assert loaded == data
    # Types are the same as well
    assert document.dump(loaded, "it") == written


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    try:
        assert isinstance(document.load(data, "it"), dict)
    except InvalidDocumentError:
        pass


@given(st.text("ab0:-? {}[]&*!<>|'\"#%,=~\n\\t", max_size=60))
def test_any_text(text: str) -> None:
    try:
        assert isinstance(document.load(text.encode(), "it"), dict)
    except InvalidDocumentError:
        pass


def test_bytes_are_read_as_base64() -> None:
    data = b"a: !!binary " + base64.b64encode(b"\x00")
    assert document.load(data, "it") == {"a": b"\x00"}


def test_header_with_tuples_of_the_user(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    params = {"shape": (1, 2), "when": datetime.date(2026, 1, 1)}
    uid = publish(model_folder, params=params)
    assert audmodel.parameters(uid) == params
    assert isinstance(audmodel.parameters(uid)["shape"], tuple)
    stored = content(repository)[f"/_uid/{uid.split('-')[0]}/1.0.0/{uid}.header.yaml"]
    assert b"!!python/tuple" in stored


def test_sets_in_parameters(model_folder: Path) -> None:
    for value in ({1}, [frozenset({1})], {"a": ({1},)}):
        with pytest.raises(InvalidInputError, match="sorted lists"):
            publish(model_folder, params={"kinds": value})
