r"""Data with which a browser searches all models.

It is a script, since pages that are opened as files may fetch nothing else.
All of it is lists and texts, so that no name of a user becomes a property.

"""

from __future__ import annotations

from collections.abc import Iterable
import json

from audmodel.core.site import text
from audmodel.core.site.content import Summary


# Characters of a value, and number of values, that can be searched
_LENGTH = 200
_VALUES = 50


def script(summaries: Iterable[Summary]) -> bytes:
    r"""Script that holds one list for each model.

    Args:
        summaries: all models, in the order of the list

    """
    # One model a line makes changes small, and ASCII needs no encoding
    rows = ",\n".join(json.dumps(_row(summary)) for summary in summaries)
    return f"const audmodelModels = [\n{rows}\n];\n".encode("ascii")


def _row(summary: Summary) -> list[object]:
    parameters = [
        f"{'.'.join(keys)}={value}" for keys, value in text.flat(summary.parameters)
    ]
    return [
        summary.short,
        _short(summary.name),
        _short(summary.subgroup),
        list(summary.versions[:_VALUES]),
        len(summary.versions),
        [_short(name) for name in summary.aliases[:_VALUES]],
        [_short(name) for name in dict.fromkeys(summary.authors[:_VALUES])],
        _short(summary.date),
        [_short(pair) for pair in parameters[:_VALUES]],
    ]


def _short(value: str) -> str:
    return text.visible(value, _LENGTH)
