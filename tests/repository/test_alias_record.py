"""The record of an alias tells how it came to point to its model."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from audmodel import AliasMove
from audmodel.core.repository import alias_record
from audmodel.core.yaml import document
from audmodel.errors import InvalidDocumentError


DAY = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
IDS = [f"3e120e8d-{number}.0.0" for number in range(50)]


def at(day: int, number: int, **values: Any) -> AliasMove:
    """Move to a model on a day."""
    date = DAY + datetime.timedelta(days=day)
    return AliasMove(IDS[number], date=date, author="me", **values)


def after(*moves: AliasMove) -> dict[str, Any]:
    """Record after some moves."""
    record: dict[str, Any] = {}
    for move in moves:
        record = alias_record.moved(record, "a", move)
        # As it is read
        record = document.load(document.dump(record, "alias"), "a")
    return record


def test_moves() -> None:
    record = after(at(0, 1), at(1, 2, url="https://example.org/jobs/1"))
    assert record["uid"] == IDS[2]
    assert alias_record.history(record, "a") == [
        at(0, 1),
        at(1, 2, previous=IDS[1], url="https://example.org/jobs/1"),
    ]
    # The same again is no move
    assert alias_record.moved(record, "a", at(2, 2)) == record


def test_number_of_moves_is_bounded() -> None:
    record = after(*(at(day, day) for day in range(50)))
    moves = alias_record.history(record, "a")
    assert [move.uid for move in moves] == IDS[-alias_record.MAX_MOVES :]
    assert moves[0].previous == IDS[-alias_record.MAX_MOVES - 1]
    long = at(50, 0, url="x" * 10_000)
    assert len(document.dump(alias_record.moved(record, "a", long), "alias")) < 10_000


def test_a_move_by_another_program() -> None:
    # Earlier releases write nothing but the model
    assert alias_record.history({"uid": IDS[1]}, "a") == [AliasMove(IDS[1])]
    record = alias_record.moved({"uid": IDS[1]}, "a", at(1, 2))
    assert alias_record.history(record, "a") == [
        AliasMove(IDS[1]),
        at(1, 2, previous=IDS[1]),
    ]
    # Others may keep the history
    record["uid"] = IDS[3]
    expected = [
        AliasMove(IDS[1]),
        at(1, 2, previous=IDS[1]),
        AliasMove(IDS[3], IDS[2]),
    ]
    assert alias_record.history(record, "a") == expected
    record = alias_record.moved(record, "a", at(4, 4))
    assert alias_record.history(record, "a") == [*expected, at(4, 4, previous=IDS[3])]


@pytest.mark.parametrize(
    "history",
    [
        5,
        {},
        "text",
        [5],
        [{}],
        [{"uid": "../../x"}],
        [{"uid": "3e120e8d"}],
        [{"uid": IDS[1], "from": "x"}],
        [{"uid": IDS[1], "from": None}],
        [{"uid": IDS[1], "date": "yesterday"}],
        [{"uid": IDS[1], "date": "2026-01-01T00:00:00"}],
        [{"uid": IDS[1], "date": DAY}],
        [{"uid": IDS[1], "author": 5}],
        [{"uid": IDS[1], "url": ["x"]}],
    ],
)
def test_history_that_is_not_valid(history: object) -> None:
    record = {"uid": IDS[1], "history": history}
    assert str(alias_record.target(record, "a")) == IDS[1]
    with pytest.raises(InvalidDocumentError, match="alias 'a' is not valid"):
        alias_record.history(record, "a")
    record = alias_record.moved(record, "a", at(1, 2))
    assert alias_record.history(record, "a") == [
        AliasMove(IDS[1]),
        at(1, 2, previous=IDS[1]),
    ]


@pytest.mark.parametrize("record", [{}, {"uid": 5}, {"uid": "x", "history": [5]}])
def test_record_without_model(record: dict[str, Any]) -> None:
    with pytest.raises(InvalidDocumentError, match="does not name a model ID"):
        alias_record.history(record, "a")
    assert alias_record.history(alias_record.moved(record, "a", at(1, 2)), "a") == [
        at(1, 2)
    ]


def test_before() -> None:
    def before(*moves: AliasMove) -> str | None:
        return alias_record.before(alias_record.history(after(*moves), "a"))

    def back(day: int, number: int) -> AliasMove:
        return at(day, number, rollback=True)

    assert before(at(0, 1)) is None
    assert before(at(0, 1), at(1, 2)) == IDS[1]
    three = (at(0, 1), at(1, 2), at(2, 3))
    assert before(*three) == IDS[2]
    # What was undone is not what a rollback leads to
    assert before(*three, back(3, 2)) == IDS[1]
    assert before(*three, back(3, 2), back(4, 1)) is None
    assert before(*three, back(3, 2), at(4, 4)) == IDS[2]
    assert before(*three, back(3, 2), at(4, 4), back(5, 2)) == IDS[1]
    assert before(at(0, 1), at(1, 2), at(2, 1)) == IDS[2]
    assert before(at(0, 1), at(1, 2), at(2, 1), back(3, 2)) == IDS[1]
    # The model before the first move that is kept
    assert alias_record.before([AliasMove(IDS[2], IDS[1])]) == IDS[1]
    assert alias_record.before([AliasMove(IDS[2])]) is None
