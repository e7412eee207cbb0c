"""Every step of the usage page, for one model, from publishing to the cache."""

from __future__ import annotations

import os
from pathlib import Path
import shutil

import audeer

import audmodel


def files(root: Path | str) -> dict[str, bytes]:
    root = Path(root)
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_usage_page(tmp_path: Path, model_folder: Path) -> None:
    root_v1 = model_folder
    root_v2 = tmp_path / "root_v2"
    shutil.copytree(root_v1, root_v2)
    (root_v2 / "model.onnx").write_bytes(b"fewer bins")

    # Publish a model
    name = "onnx"
    params = {
        "model": "cnn10",
        "data": ["emodb", "msppodcast"],
        "feature": "melspec",
        "sampling_rate": 16000,
    }
    version = "1.0.0"
    author = "sphinx"
    melspec = {"win_dur": "32ms", "hop_dur": "10ms", "mel_bins": 64}
    meta = {
        "model": {"cnn10": {"learning-rate": 1e-2, "optimizer": "adam"}},
        "data": {
            "emodb": {"version": "1.1.1"},
            "msppodcast": {"version": "2.6.0"},
        },
        "feature": {"melspec": melspec},
    }
    subgroup = "emotion.cnn"

    host = tmp_path / "repo"
    (host / "models").mkdir(parents=True)
    repository = audmodel.Repository("models", str(host), "file-system")
    audmodel.config.REPOSITORIES = [repository]
    uid = audmodel.publish(
        str(root_v1),
        name,
        params,
        version,
        author=author,
        meta=meta,
        subgroup=subgroup,
        repository=repository,
    )
    assert uid == "3e120e8d-1.0.0"

    # Load a model
    assert audmodel.exists(uid) is True
    assert audmodel.name(uid) == "onnx"
    parameters = audmodel.parameters(uid)
    assert parameters == params
    assert list(parameters) == ["model", "data", "feature", "sampling_rate"]
    assert audmodel.meta(uid) == {
        "model": {"cnn10": {"learning-rate": 0.01, "optimizer": "adam"}},
        "data": {
            "emodb": {"version": "1.1.1"},
            "msppodcast": {"version": "2.6.0"},
        },
        "feature": {"melspec": {"win_dur": "32ms", "hop_dur": "10ms", "mel_bins": 64}},
    }
    model_root = audmodel.load(uid)
    assert os.path.basename(model_root) == "1.0.0"
    assert sorted(files(model_root)) == [
        "log/eval.yaml",
        "model.onnx",
        "model.yaml",
        "readme.txt",
    ]
    assert files(model_root) == files(root_v1)

    # Model alias
    audmodel.set_alias("emotion-small", uid)
    assert audmodel.resolve_alias("emotion-small") == "3e120e8d-1.0.0"
    assert audmodel.load("emotion-small") == model_root
    audmodel.set_alias("emotion-production", uid)
    assert audmodel.aliases(uid) == ["emotion-production", "emotion-small"]

    # Publish a new version
    melspec["mel_bins"] = 32
    uid_v1 = uid
    uid = audmodel.publish(
        str(root_v2),
        name,
        params,
        "2.0.0",
        meta=meta,
        subgroup=subgroup,
        repository=repository,
    )
    assert uid == "3e120e8d-2.0.0"
    assert audmodel.versions(uid) == ["1.0.0", "2.0.0"]
    assert audmodel.latest_version(uid) == "2.0.0"
    audmodel.set_alias("emotion-small", uid)
    audmodel.set_alias("emotion-production", uid)
    assert audmodel.aliases(uid_v1) == []
    assert audmodel.aliases(uid) == ["emotion-production", "emotion-small"]
    assert files(audmodel.load("emotion-small")) == files(root_v2)

    # Update metadata
    audmodel.update_meta(uid, {"model": {"cnn10": {"layers": 10}}})
    assert audmodel.meta(uid) == {
        "model": {"cnn10": {"learning-rate": 0.01, "optimizer": "adam", "layers": 10}},
        "data": {
            "emodb": {"version": "1.1.1"},
            "msppodcast": {"version": "2.6.0"},
        },
        "feature": {"melspec": {"win_dur": "32ms", "hop_dur": "10ms", "mel_bins": 32}},
    }
    audmodel.update_meta(uid, {"new": "meta"}, replace=True)
    assert audmodel.meta(uid) == {"new": "meta"}

    # Cache folder
    cache_root = audmodel.default_cache_root()
    assert audeer.list_dir_names(cache_root, basenames=True) == ["3e120e8d"]
    os.environ["AUDMODEL_CACHE_ROOT"] = str(tmp_path / "from-environment")
    assert audmodel.default_cache_root() == str(tmp_path / "from-environment")
    del os.environ["AUDMODEL_CACHE_ROOT"]
    audmodel.config.CACHE_ROOT = str(tmp_path / "from-config")
    assert audmodel.default_cache_root() == str(tmp_path / "from-config")
    other = audmodel.load(uid, cache_root=str(tmp_path / "from-argument"))
    assert other == str(tmp_path / "from-argument" / "3e120e8d" / "2.0.0")
    assert files(other) == files(root_v2)
