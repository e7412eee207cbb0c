# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "audmodel[catalog]",
#     "playwright>=1.50",
# ]
#
# [tool.uv.sources]
# audmodel = { path = "..", editable = true }
# ///
"""Build the catalogue of a repository with many made-up models, and search it.

The records of the models are written as a publisher writes them,
and all have the same archive.
With Chromium on this machine it is measured as well how long a search takes.

"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Iterator
import os
from pathlib import Path
import random
import shutil
import statistics
import sys
import tempfile
import time
from typing import Any


sys.path.insert(0, str(Path(__file__).parents[1]))

import audmodel
from audmodel.core.repository import header as headers
from audmodel.core.repository import layout
from audmodel.core.uid import ModelId
from audmodel.core.uid import short_id
from audmodel.core.yaml import document


NAMES = ("onnx", "torch", "keras", "sklearn", "wav2vec2")
TASKS = ("emotion", "speaker", "speech", "event", "music")
KINDS = ("cnn", "transformer", "svm", "dimensional", "categorical")
AUTHORS = ("ada", "grace", "alan", "barbara", "edsger", "frances", "john", "radia")
CARD = """\
# A model

It was made up, see [usage](#usage).

## Usage

| Data set | UAR |
| -------- | --- |
| emodb    | 0.7 |
"""
MODEL_FILES = {"model.onnx": bytes(50_000), "README.md": CARD.encode()}
SEARCH = """(words) => words.map((text) => {
    const input = document.getElementById("words");
    const start = performance.now();
    input.value = text;
    input.dispatchEvent(new Event("input"));
    document.body.getBoundingClientRect();
    return performance.now() - start;
})"""
WORDS = ("e", "em", "emotion", "emotion cnn", "rate=16000 ada", "zzz", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=int, default=5000, help="number of models")
    parser.add_argument("--num-workers", type=int, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="audmodel-catalog-") as folder:
        root = Path(folder)
        os.environ["HOME"] = folder
        repository = make_repository(root, options.models)

        def build(name: str, **arguments: Any) -> None:
            catalog = measured(
                name,
                lambda: audmodel.build_catalog(
                    repository, num_workers=options.num_workers, **arguments
                ),
            )
            show("", f"{catalog.written} files written")

        site = root / "site"
        build("first build", output=site)
        sizes = [path.stat().st_size for path in site.rglob("*") if path.is_file()]
        show("size of the site", f"{sum(sizes) / 1e6:.1f} MB in {len(sizes)} files")
        for name in ("models.js", "models.json"):
            show(f"size of {name}", f"{(site / name).stat().st_size / 1e6:.1f} MB")
        build("no change", output=site)
        audmodel.update_meta(audmodel.models(catalog=True)[0].uid, {"new": 1})
        build("one model changed", output=site)
        build("publish", publish=True)
        measured("models()", audmodel.models)
        measured("models(catalog=True)", lambda: audmodel.models(catalog=True))
        search(site)


def make_repository(root: Path, count: int) -> audmodel.Repository:
    """A repository with made-up models, about three versions each for some."""
    (root / "host" / "models").mkdir(parents=True)
    repository = audmodel.Repository("models", str(root / "host"), "file-system")
    audmodel.config.REPOSITORIES = [repository]
    audmodel.config.CACHE_ROOT = str(root / "cache")
    folder = root / "model"
    folder.mkdir()
    for name, data in MODEL_FILES.items():
        (folder / name).write_bytes(data)
    uid = audmodel.publish(str(folder), "first", {}, "1.0.0", author="ada")
    host = root / "host" / "models"
    (archive,) = host.rglob("*.zip")
    (stored,) = host.rglob("*.header.yaml")
    model = ModelId(*uid.split("-"))
    template = headers.parse(stored.read_bytes(), model, "The header")
    for model, header, meta in _models(count - 1, template):
        _write(host, layout.record_path(model, "header"), header.dump())
        _write(host, layout.record_path(model, "meta"), document.dump(meta, "meta"))
        path = host / layout.archive_path(model, header.location)[1:]
        path.parent.mkdir(parents=True)
        os.link(archive, path)
        if model.version == "3.0.0":
            alias = document.dump({"uid": str(model)}, "alias")
            _write(host, layout.alias_path(f"alias-{model.short}"), alias)
    return repository


def _models(
    count: int, template: headers.Header
) -> Iterator[tuple[ModelId, headers.Header, dict[str, Any]]]:
    import dataclasses

    generator = random.Random(0)
    number = 0
    while number < count:
        name = generator.choice(NAMES)
        subgroup = f"{generator.choice(TASKS)}.{generator.choice(KINDS)}"
        params = {
            "seed": number,
            "sampling_rate": generator.choice((8000, 16000, 44100)),
            "data": generator.sample(("emodb", "iemocap", "msp", "fau"), 2),
            "optimizer": {"name": "adam", "rate": generator.random()},
        }
        for version in ("1.0.0", "2.0.0", "3.0.0")[: generator.choice((1, 1, 1, 3))]:
            header = dataclasses.replace(
                template,
                name=name,
                subgroup=subgroup,
                params=params,
                version=version,
                author=generator.choice(AUTHORS),
            )
            meta = {"uar": generator.random(), "loss": {"train": generator.random()}}
            yield ModelId(short_id(name, params, subgroup), version), header, meta
            number += 1


def _write(host: Path, path: str, data: bytes) -> None:
    target = host / path[1:]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def measured(name: str, function: Callable[[], Any]) -> Any:
    """Result of a function, whose time is shown."""
    start = time.perf_counter()
    result = function()
    show(name, f"{time.perf_counter() - start:.2f} s")
    return result


def show(name: str, value: str) -> None:
    print(f"{name:22} {value}", flush=True)


def search(site: Path) -> None:
    """Show how long searches take in a browser."""
    program = shutil.which("chromium")
    if program is None:
        show("search", "there is no chromium")
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        page = browser.new_page()
        start = time.perf_counter()
        page.goto((site / "index.html").as_uri())
        show("open the list", f"{(time.perf_counter() - start) * 1000:.0f} ms")
        times = [page.evaluate(SEARCH, WORDS) for _ in range(5)]
        for word, values in zip(WORDS, zip(*times), strict=True):
            show(f"search {word!r}", f"{statistics.median(values):.1f} ms")
        browser.close()


if __name__ == "__main__":
    main()
