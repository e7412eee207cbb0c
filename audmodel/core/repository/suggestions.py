r"""Which model a user may have meant by an ID or alias that does not exist."""

from __future__ import annotations

import contextlib

from audmodel.core.errors import AudmodelError
from audmodel.core.repository import notation
from audmodel.core.repository.config import config
from audmodel.core.repository.lookup import each
from audmodel.core.repository.registry import Registry
from audmodel.core.similar import did_you_mean


def similar_model(text: str, repository: str | None = None) -> str:
    r"""Question for a model whose ID or alias is similar.

    All repositories are listed, so it is something for people who wait for it.

    Returns:
        question with a space in front,
        empty if nothing is similar, or cannot be listed

    """
    known: set[str] = set()

    def names(registry: Registry) -> None:
        models = registry.models()
        known.update(map(str, models), (model.short for model in models))
        known.update(registry.alias_names())

    searched = config.REPOSITORIES
    if repository is not None:
        searched = [notation.find(repository, searched)]
    for place in searched:
        with contextlib.suppress(AudmodelError):
            each(names, [place])
    return "" if text in known else did_you_mean(text, known)
