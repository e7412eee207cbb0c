"""Parameters and metadata on the command line are what they are in Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import audmodel
from tests.cli.conftest import Call


BASE = ("--name", "onnx", "--version", "1.0.0")
NUMBERS = [1e-05, 1e5, 5e-324, 1.5e300, 1e22, -2e-7, 0.1, 3, -(2**70), True, None]
TEXTS = ["1e-05", "12:30", "0123", "no", "a: b", "# c", "\u2028", "tab\tquote\"'", ""]


@pytest.mark.sample(14)
@pytest.mark.parametrize("value", [*NUMBERS, *TEXTS, [1e-05, {"a": 1e7}]], ids=repr)
@pytest.mark.parametrize("how", ["pair", "file"])
def test_json_is_read_as_json(
    call: Call,
    place: audmodel.Repository,
    model_folder: Path,
    tmp_path: Path,
    value: object,
    how: str,
) -> None:
    params = {"key": value}
    item = f"key={json.dumps(value)}"
    if how == "file":
        file = tmp_path / "params"
        file.write_text(json.dumps(params, indent="\t"))
        item = str(file)
    answer = call("publish", model_folder, *BASE, "--params", item)
    assert (answer.code, answer.err) == (0, "")
    uid = answer.out.strip()
    assert uid == audmodel.uid("onnx", params, "1.0.0")
    read = audmodel.parameters(uid)["key"]
    assert (read, type(read)) == (value, type(value))
    if how == "pair":
        assert call("ls", "--json", "--params", item).data[0]["uid"] == uid


@pytest.mark.parametrize("text", [".5e3", "+1e5", "NaN", "-Infinity"])
@pytest.mark.parametrize("how", ["pair", "list", "yaml", "meta"])
def test_a_number_that_stays_text_is_a_warning(
    call: Call, uid: str, model_folder: Path, tmp_path: Path, text: str, how: str
) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(f"model: cnn10\nsgd: [{{key: {text}}}]\n")
    if how == "meta":
        answer = call("meta", "update", uid, f"key={text}")
    else:
        items = {"pair": f"key={text}", "list": f"key=[{text}]", "yaml": str(file)}
        answer = call("publish", model_folder, *BASE, "--params", items[how])
    assert answer.code == 0
    assert f"warning: '{text}' of 'key' is text, not a number" in answer.err
    assert answer.err.count("warning") == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [("12:30", 750), ("0123", 83), ("no", False), ("On", True), ("0o17", None)],
)
def test_text_that_becomes_something_else_is_a_warning(
    call: Call, uid: str, text: str, value: object
) -> None:
    answer = call("meta", "update", uid, f"key={text}")
    assert answer.code == 0
    if value is None:
        assert (audmodel.meta(uid)["key"], answer.err) == (text, "")
        return
    assert audmodel.meta(uid)["key"] == value
    assert f"warning: '{text}' of 'key' is read as {value}" in answer.err
    quoted = call("meta", "update", uid, f'key="{text}"')
    assert (audmodel.meta(uid)["key"], quoted.err) == (text, "")


@pytest.mark.parametrize(
    "text", ["'1e-5'", '"NaN"', "1e-5 s", "v1.e3", "2026-01-01", "a", "1.0.0", "[1, b]"]
)
def test_plain_text_is_no_warning(call: Call, uid: str, text: str) -> None:
    answer = call("meta", "update", uid, f"key={text}")
    assert (answer.code, answer.err) == (0, "")


@pytest.mark.parametrize(
    ("text", "comment"),
    [("issue #5", "#5"), ("#ff0000", "#ff0000"), ("[1] # one", "# one"), ("é #", "#")],
)
def test_text_that_would_be_left_out_is_refused(
    call: Call, uid: str, model_folder: Path, text: str, comment: str
) -> None:
    answer = call("publish", model_folder, *BASE, "--params", f"key={text}")
    assert (answer.code, answer.out) == (1, "")
    assert f"'{comment}' of 'key' is a comment in YAML" in answer.err
    assert call("meta", "update", uid, f"key={text}").code == 1
    assert "key" not in audmodel.meta(uid)
    quoted = call("meta", "update", uid, f"key={json.dumps(text)}")
    assert (audmodel.meta(uid)["key"], quoted.err) == (text, "")


@pytest.mark.parametrize(
    ("text", "mark"), [("|", "|"), (">-", ">-"), (" |2 ", "|2"), ("&co 1", "&co")]
)
def test_marks_of_yaml_that_would_be_left_out_are_refused(
    call: Call, uid: str, text: str, mark: str
) -> None:
    answer = call("meta", "update", uid, f"key={text}")
    assert (answer.code, answer.out) == (1, "")
    assert f"'{mark}' of 'key' has a meaning of its own in YAML" in answer.err
    assert "key" not in audmodel.meta(uid)
    quoted = call("meta", "update", uid, f"key={json.dumps(text)}")
    assert (audmodel.meta(uid)["key"], quoted.err) == (text, "")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("|\n a\n b", "a\nb"),
        ("[&a 1, *a]", [1, 1]),
        ("a | b > c & d", "a | b > c & d"),
    ],
)
def test_marks_of_yaml_that_mean_something_are_kept(
    call: Call, uid: str, text: str, value: object
) -> None:
    answer = call("meta", "update", uid, f"key={text}")
    assert (answer.code, answer.err) == (0, "")
    assert audmodel.meta(uid)["key"] == value


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_of_any_encoding(
    call: Call, uid: str, tmp_path: Path, encoding: str
) -> None:
    file = tmp_path / "meta.json"
    file.write_text('{"rate": 1e-05, "name": "é"}', encoding=encoding)
    answer = call("meta", "update", uid, file)
    assert (answer.code, answer.err) == (0, "")
    meta = audmodel.meta(uid)
    assert (meta["rate"], meta["name"]) == (1e-05, "é")


@pytest.mark.parametrize("text", ["a#b", "'a #b'", "[a#, '#']", "https://host/#top"])
def test_a_number_sign_within_a_value_is_kept(call: Call, uid: str, text: str) -> None:
    answer = call("meta", "update", uid, f"key={text}")
    assert (answer.code, answer.err) == (0, "")
    assert "#" in str(audmodel.meta(uid)["key"])


def test_json_with_a_key_twice_is_refused(
    call: Call, uid: str, model_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "params.json"
    file.write_text('{"a": 1, "a": 2}')
    answer = call("publish", model_folder, *BASE, "--params", file)
    assert (answer.code, answer.out) == (1, "")
    assert "'a' occurs twice" in answer.err


def test_what_is_neither_file_nor_pair(call: Call, uid: str) -> None:
    answer = call("meta", "update", uid, "lr")
    assert (answer.code, answer.out) == (1, "")
    assert "There is no file 'lr'. Write KEY=VALUE for one value" in answer.err


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_numbers_that_json_does_not_have_are_text(
    call: Call, uid: str, text: str
) -> None:
    audmodel.update_meta(uid, {"loss": float(text), "none": None}, replace=True)
    answer = call("meta", "show", uid, "--json")
    assert (answer.data, answer.err) == ({"loss": text, "none": None}, "")


def test_keys_that_are_the_same_text_are_kept(call: Call, uid: str) -> None:
    meta = {"a": {1: "number", "1": "text"}, "b": {2: {3: None}}}
    audmodel.update_meta(uid, meta, replace=True)
    answer = call("meta", "show", uid, "--json")
    assert answer.code == 0
    assert answer.data == {
        "a": {"1": "number", "'1'": "text"},
        "b": {"2": {"3": None}},
    }
    assert answer.err.count("warning: Keys of a dictionary") == 1
    assert "1, '1'" in answer.err
