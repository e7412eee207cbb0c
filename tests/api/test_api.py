"""What the package offers: names, signatures, and how long its import takes."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

import pytest

import audmodel
from tests.behaviour.backends import publish
from tests.conftest import ROOT
from tests.processes import Interpreter


def test_signatures_are_those_of_the_release_and_more(released: Interpreter) -> None:
    code = """
        import inspect
        return {
            name: [
                [parameter.name, parameter.kind.name, repr(parameter.default)]
                for parameter in inspect.signature(value).parameters.values()
            ]
            for name, value in vars(audmodel).items()
            if inspect.isfunction(value) or name == "Repository"
        }
    """
    signatures = released.run(code)
    assert {"publish", "load", "Repository"} <= set(signatures)
    for name, parameters in signatures.items():
        ours = inspect.signature(getattr(audmodel, name)).parameters
        known = list(ours.values())
        for parameter, kind, default in parameters:
            assert ours[parameter].kind.name == kind
            if (name, parameter) != ("publish", "repository"):
                assert repr(ours[parameter].default) == default
        # What can be given without a name keeps its place
        positional = [p for p, kind, _ in parameters if kind == "POSITIONAL_OR_KEYWORD"]
        assert [p.name for p in known[: len(positional)]] == positional
        # What is new can be left out
        for parameter in ours.values():
            if parameter.name not in [p for p, _, _ in parameters]:
                assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
                assert parameter.default is not inspect.Parameter.empty


# Import --------------------------------------------------------------------


def test_import_time() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
    # Seconds of the processor, as other processes may keep it from this one
    code = "import time; start = time.process_time(); import audmodel"
    code += "; print(time.process_time() - start)"
    best = float("inf")
    for _ in range(10):
        result = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        best = min(best, float(result.stdout))
        if best < 0.05:
            break
    assert best < 0.1


def test_import_leaves_heavy_modules_alone() -> None:
    heavy = (
        "aiohttp asyncio audbackend audeer blake3 boto3 botocore concurrent.futures "
        "filelock http.client isal isal.isal_zlib json.decoder logging.handlers "
        "multiprocessing multiprocessing.pool numpy oyaml pandas requests "
        "s3transfer ssl tqdm urllib3 yaml zipfile"
    ).split()
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import audmodel\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    loaded = result.stdout.split()
    assert "audmodel.core.api" in loaded
    assert set(loaded).isdisjoint(heavy)


def test_finished_model_is_loaded_without_heavy_modules(
    repository: audmodel.Repository, python: Interpreter, model_folder: Path
) -> None:
    uid = publish(model_folder)
    root = audmodel.load(uid)
    code = """
        before = set(sys.modules)
        root = audmodel.load(args["uid"])
        heavy = ("audbackend", "boto3", "requests", "yaml", "filelock", "numpy", "tqdm")
        return [root, [name for name in heavy if name in set(sys.modules) - before]]
    """
    assert python.run(code, uid=uid) == [root, []]


def test_verbose(
    repository: audmodel.Repository,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uid = publish(model_folder, verbose=True)
    assert f"Publish {uid}: 100 %" in capsys.readouterr().err
    audmodel.load(uid, verbose=True)
    assert f"Load {uid}: 100 %" in capsys.readouterr().err
    # There is nothing to do any more, and nothing to show without being asked
    audmodel.load(uid, verbose=True)
    publish(model_folder, version="2.0.0")
    audmodel.load(f"{uid.split('-')[0]}-2.0.0")
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out == ""


def test_repositories() -> None:
    repository = audmodel.Repository("models", "/data", "file-system")
    assert repr(repository) == "Repository('models', '/data', 'file-system')"
    assert repository == audmodel.Repository("models", "/data", "file-system")
    for other in ("x", "/data", "file-system"), ("models", "x", "file-system"):
        assert repository != audmodel.Repository(*other)
    assert repository != audmodel.Repository("models", "/data", "s3")
    assert repository != "Repository('models', '/data', 'file-system')"
    assert len({repository, audmodel.Repository("models", "/data", "file-system")}) == 1
    assert {"file-system", "s3", "minio"} <= set(audmodel.Repository.backend_registry)


@pytest.mark.parametrize("backend", [str, "file-system", None, audmodel.Repository])
def test_only_backends_can_be_registered(backend: Any) -> None:
    with pytest.raises(TypeError, match=r"derives from audbackend\.backend\.Base"):
        audmodel.Repository.register("mine", backend)
    assert "mine" not in audmodel.Repository.backend_registry


def test_interface_of_an_unknown_backend() -> None:
    with pytest.raises(ValueError, match="'x' is not a registered backend"):
        audmodel.Repository("models", "/data", "x").create_backend_interface()


def test_user_without_a_name(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def getuser() -> str:
        raise OSError("No username set in the environment")

    monkeypatch.setattr("getpass.getuser", getuser)
    uid = publish(model_folder, author=None)
    assert audmodel.author(uid) == str(os.getuid())


def test_backends_are_shown_by_name() -> None:
    assert "FileSystem" in repr(audmodel.Repository.backend_registry)
