"""Pages for operators, and recipes: what they show is run."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import os
from pathlib import Path
import re
import subprocess
import sys
import textwrap
from typing import Any

import pytest

import audmodel
from tests.backends import seaweedfs
from tests.conftest import ROOT
from tests.parts import skip_without
from tests.processes import Interpreter
from tests.test_docs import AUDMODEL
from tests.test_docs import GUIDE
from tests.test_docs import folder as folder
from tests.test_docs import run_examples
from tests.test_docs import with_examples
from tests.users import let_in
from tests.users import needs_root


BUCKET = "team-models"
IN_BUCKET = [
    ROOT / "docs" / "operate" / "bucket.rst",
    ROOT / "docs" / "recipes" / "public-bucket.rst",
]
IN_FOLDER = sorted(
    path
    for folder in GUIDE
    for path in (ROOT / "docs" / folder).glob("*.rst")
    if path not in IN_BUCKET
)


def script(page: str) -> str:
    """The script that a page has for readers."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    [block] = re.findall(
        r"^\.\. code-block:: bash\n(?:    :.*\n)?\n((?:    .*\n|\n)+)",
        text,
        re.MULTILINE,
    )
    return textwrap.dedent(block)


def run(script: str) -> str:
    """Output of a script, which has to succeed."""
    result = subprocess.run(
        ["bash", "-e", "-c", f"{AUDMODEL}{script}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def configure(home: Path, folder: Path, name: str, host: str, backend: str) -> None:
    """Write the configuration of a reader who has one repository."""
    path = home / ".config" / "audmodel.yaml"
    path.parent.mkdir()
    path.write_text(
        f"cache_root: {folder}/cache\n"
        "repositories:\n"
        f"  - {{name: {name}, host: {host}, backend: {backend}}}\n"
    )


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of ``python``, and of programs that packages bring, in the path."""
    folder = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def storage(home: Path, folder: Path, programs: Path) -> audmodel.Repository:
    """The repository ``models`` in the folder ``storage``."""
    (folder / "storage" / "models").mkdir(parents=True)
    configure(home, folder, "models", f"{folder}/storage", "file-system")
    return audmodel.Repository("models", f"{folder}/storage", "file-system")


@pytest.fixture
def bucket(
    home: Path, folder: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[audmodel.Repository]:
    """The repository in the bucket ``team-models``."""
    server = seaweedfs.shared()
    client = server.client()
    client.create_bucket(Bucket=BUCKET)
    variables = {
        "AWS_ACCESS_KEY_ID": seaweedfs.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": seaweedfs.SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.url,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    configure(home, folder, BUCKET, server.url, "s3")
    yield audmodel.Repository(BUCKET, server.url, "s3")
    for page in client.get_paginator("list_object_versions").paginate(Bucket=BUCKET):
        for entry in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            client.delete_object(
                Bucket=BUCKET, Key=entry["Key"], VersionId=entry["VersionId"]
            )
    client.delete_bucket(Bucket=BUCKET)


# Pages ---------------------------------------------------------------------


def killed_publisher(_: pytest.FixtureRequest) -> None:
    """Kill a publisher at the end of its upload."""
    code = """
        import os, signal
        import audmodel
        from audmodel.core.backend.filesystem import FileSystem
        FileSystem._move = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        audmodel.publish("my-model", "onnx", {}, "2.0.0")
        """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        stderr=subprocess.PIPE,
        check=False,
    )
    assert (result.returncode, result.stderr) == (-9, b"")


def torch(request: pytest.FixtureRequest) -> None:
    """Let a stand-in have the name of PyTorch, which is too large for the tests."""
    from tests.ecosystem import torch_stand_in

    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    patch.setitem(sys.modules, "torch", torch_stand_in)


def hub(request: pytest.FixtureRequest) -> None:
    """Let the cache of Hugging Face have a model, as after a download."""
    import numpy as np
    from safetensors.numpy import save_file

    cache = Path("hub").absolute()
    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    page = (ROOT / "docs" / "recipes" / "hugging-face.rst").read_text("utf-8")
    [revision] = re.findall(r'revision = "(\w{40})"', page)
    root = cache / "models--example--emotion"
    snapshot = root / "snapshots" / revision
    for path in (root / "blobs", snapshot):
        path.mkdir(parents=True)
    blobs = {
        ".gitattributes": b"*.safetensors filter=lfs\n",
        "README.md": b"# Emotion\n",
        "config.json": b'{"model_type": "wav2vec2"}',
    }
    for name, content in blobs.items():
        (root / "blobs" / name).write_bytes(content)
    save_file({"weight": np.ones(4)}, root / "blobs" / "model.safetensors")
    for path in (root / "blobs").iterdir():
        (snapshot / path.name).symlink_to(path)


PREPARED: dict[str, Callable[[pytest.FixtureRequest], None]] = {
    "docs/operate/cancelled.rst": killed_publisher,
    "docs/recipes/hugging-face.rst": hub,
    "docs/recipes/torch.rst": torch,
}


@pytest.mark.parametrize("name", with_examples(*IN_FOLDER))
def test_pages_about_a_folder(
    request: pytest.FixtureRequest, name: str, storage: audmodel.Repository
) -> None:
    if name in PREPARED:
        PREPARED[name](request)
    run_examples(name)


@pytest.mark.parametrize("name", with_examples(*IN_BUCKET))
def test_pages_about_a_bucket(name: str, bucket: audmodel.Repository) -> None:
    run_examples(name)


def test_every_page_is_in_the_index() -> None:
    for name in GUIDE:
        pages = {path.stem for path in (ROOT / "docs" / name).glob("*.rst")}
        index = (ROOT / "docs" / name / "index.rst").read_text("utf-8")
        assert set(re.findall(r":doc:`([\w-]+)`", index)) == pages - {"index"}


# Scripts -------------------------------------------------------------------


@pytest.mark.thorough
def test_backup_of_a_bucket(
    bucket: audmodel.Repository,
    folder: Path,
    programs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not (programs / "rclone").exists():
        skip_without("rclone")
    remote = {
        "TYPE": "s3",
        "PROVIDER": "SeaweedFS",
        "ENV_AUTH": "true",
        "ENDPOINT": bucket.host,
    }
    for name, value in remote.items():
        monkeypatch.setenv(f"RCLONE_CONFIG_TEAM_{name}", value)
    uids = [
        audmodel.publish("my-model", "onnx", {}, version, alias="prod")
        for version in ("1.0.0", "2.0.0")
    ]
    run(script("operate/backup.rst"))
    copy = audmodel.Repository("files", str(folder), "file-system")
    assert audmodel.audit_repository(copy) == []
    assert all(audmodel.verify(uid, remote=True, repository=copy).ok for uid in uids)
    assert audmodel.alias_history("prod", repository=copy) == audmodel.alias_history(
        "prod"
    )


@pytest.mark.thorough
def test_nightly_job(storage: audmodel.Repository, folder: Path) -> None:
    audmodel.publish("my-model", "onnx", {}, "1.0.0")
    output = run(script("operate/monitor.rst"))
    assert "meets the requirements" in output
    assert "Something is missing" not in output
    (folder / "storage/models/onnx/4e82dcc9/1.0.0/4e82dcc9-1.0.0.zip").unlink()
    assert "Something is missing" in run(script("operate/monitor.rst"))


@needs_root
def test_folder_of_a_team(
    storage: audmodel.Repository, tmp_path: Path, python: Interpreter
) -> None:
    """Two members of the group publish and change, others only load."""
    page = (ROOT / "docs" / "operate" / "permissions.rst").read_text("utf-8")
    root = Path(storage.host, storage.name)
    *lines, repair = [
        line.replace("team", "4242").replace("/data/models", str(root))
        for line in re.findall(r"^    \$ (.* /data/models)$", page, re.MULTILINE)
        if not line.startswith("setfacl")
    ]
    run("\n".join(lines))
    let_in(tmp_path)
    tmp_path.chmod(0o777)
    audmodel.config.REPOSITORIES = [storage]
    code = """
        from tests.users import become
        os.umask(args.get("umask", 0o002))
        become(args["user"], args["user"], args["groups"])
        audmodel.config.CACHE_ROOT += str(args["user"])
        repository = audmodel.config.REPOSITORIES[0]
        def publish(version):
            return audmodel.publish(
                args["root"], "onnx", {}, version, alias="prod", author="me"
            )
        """
    audmodel.config.CACHE_ROOT = str(tmp_path / "cache")

    def call(body: str, user: int, **given: Any) -> Any:
        return python.run(
            textwrap.dedent(code) + textwrap.dedent(body),
            user=user,
            groups=[] if user == 5003 else [4242],
            root=os.path.abspath("my-model"),
            **given,
        )

    first = call("return publish('1.0.0')", 5001)
    second = call(
        """
        uid = publish('2.0.0')
        audmodel.update_meta(args["first"], {"uar": 0.7})
        audmodel.set_alias("prod", uid, author="me")
        audmodel.delete(args["first"])
        return uid
        """,
        5002,
        first=first,
    )
    names, error = call(
        """
        root = audmodel.load("prod")
        assert audmodel.verify(args["second"], remote=True).ok
        assert audmodel.audit_repository(repository) == []
        assert audmodel.leftovers(repository, min_age=0) == []
        try:
            publish("3.0.0")
        except audmodel.errors.RepositoryError as error:
            return [sorted(os.listdir(root)), str(error)]
        """,
        5003,
        second=second,
    )
    assert names == ["log", "model.onnx", "model.yaml", "readme.txt"]
    assert str(root) in error
    assert error.partition("': ")[2] in page
    # Of a member who has another umask, others can load what was repaired
    load = """
        try:
            return audmodel.exists(args["third"]) and bool(audmodel.load("prod"))
        except audmodel.errors.RepositoryError as error:
            return str(error)
        """
    third = call("return publish('4.0.0')", 5001, umask=0o077)
    assert "Permission denied" in call(load, 5003, third=third)
    run(repair)
    assert call(load, 5003, third=third) is True
