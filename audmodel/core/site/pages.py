r"""Pages of a catalogue: templates that are filled with data."""

from __future__ import annotations

from collections.abc import Sequence
import functools
import hashlib
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from audmodel.core.errors import MissingPackageError
from audmodel.core.site import card
from audmodel.core.site import comparison
from audmodel.core.site import text
from audmodel.core.site.content import Model
from audmodel.core.site.content import Summary


if TYPE_CHECKING:
    import jinja2


INDEX = "index.html"
SEARCH = "models.js"
_ROOM = Path(__file__).parent
_PACKAGES = ("jinja2", "markdown_it")


def check_packages() -> None:
    r"""Raise an error if a package is missing that catalogues need.

    Raises:
        MissingPackageError: if one is missing

    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"A catalogue needs packages that are not installed: {', '.join(missing)}. "
            "Install them with pip install 'audmodel[catalog]'."
        )


def model_path(short: str) -> str:
    r"""Path of the page of a model in the site."""
    return f"models/{short}.html"


@functools.cache
def assets() -> dict[str, bytes]:
    r"""Files that all pages use, by their path in the site."""
    folder = _ROOM / "assets"
    return {f"assets/{path.name}": path.read_bytes() for path in folder.iterdir()}


@functools.cache
def generator() -> str:
    r"""Digest of everything that makes pages, which differs if pages may."""
    digest = hashlib.sha256()
    for path in sorted(_ROOM.rglob("*")):
        if path.suffix in (".py", ".html", ".css", ".js", ".svg"):
            digest.update(path.relative_to(_ROOM).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


class Pages:
    r"""Makes pages.

    Args:
        title: name of the catalogue

    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._environment = _environment()

    def model(self, model: Model) -> bytes:
        r"""Page of a model."""
        return self._render(
            "model.html",
            root="../",
            model=model,
            summary=model.summary,
            parameters=list(text.flat(model.summary.parameters)),
            sections=comparison.sections(model.versions),
            card=card.html(model.card),
            omitted=len(model.summary.versions) - len(model.versions),
        )

    def index(self, summaries: Sequence[Summary], data: bytes) -> bytes:
        r"""Page that lists all models.

        Args:
            summaries: all models
            data: script with which they are searched

        """
        return self._render(
            "index.html",
            root="",
            count=len(summaries),
            versions=sum(len(summary.versions) for summary in summaries),
            search=f"{SEARCH}?{_digest(data)}",
        )

    def _render(self, template: str, **values: Any) -> bytes:
        page = self._environment.get_template(template).render(
            title=self._title, **values
        )
        # What cannot be encoded was made visible before
        return page.encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def _asset(name: str) -> str:
    r"""Path of an asset, which differs if its content does."""
    path = f"assets/{name}"
    return f"{path}?{_digest(assets()[path])}"


def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(os.fspath(_ROOM / "templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(visible=text.visible)
    environment.globals.update(asset=_asset, model_path=model_path)
    environment.globals["max_rows"] = text.MAX_ROWS
    environment.tests["link"] = text.is_link
    return environment
