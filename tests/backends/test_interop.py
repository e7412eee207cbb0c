"""The released audmodel and this one work on the same bucket and cache."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
import subprocess
from typing import Any

import pytest

import audmodel
from tests.backends import seaweedfs
from tests.backends.proxy import Proxy
from tests.behaviour.backends import files


MIB = 1024 * 1024

SCRIPT = """
import json, sys
import audmodel
host, bucket, cache, code = sys.argv[1:]
repository = audmodel.Repository(bucket, host, "minio")
audmodel.config.REPOSITORIES = [repository]
audmodel.config.CACHE_ROOT = cache
result = None
exec(code)
print(json.dumps(result, default=str))
"""


class Released:
    """The released audmodel, in processes of its own."""

    def __init__(
        self, python: Path, home: Path, server: seaweedfs.SeaweedFS, bucket: str
    ) -> None:
        self._command = [str(python), "-c", SCRIPT, server.host, bucket]
        self._environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
        self.cache = home / "cache"
        config = home / ".config" / "audbackend" / "minio.cfg"
        config.parent.mkdir(parents=True)
        # Only a value that is missing switches TLS off in the released version
        config.write_text(
            f"[{server.host}]\n"
            f"access_key = {seaweedfs.ACCESS_KEY}\n"
            f"secret_key = {seaweedfs.SECRET_KEY}\n"
            "secure\n",
            encoding="utf-8",
        )

    def run(self, code: str, cache: Path | None = None) -> Any:
        """Run code that assigns something to ``result``."""
        done = subprocess.run(
            [*self._command, str(cache or self.cache), code],
            env=self._environment,
            # The current folder comes before what is installed
            cwd=self.cache.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def bucket(weed: seaweedfs.SeaweedFS) -> str:
    """A bucket of its own, since SeaweedFS remembers folders of other tests."""
    return weed.bucket()


@pytest.fixture
def released(
    released_python: Path,
    tmp_path: Path,
    weed: seaweedfs.SeaweedFS,
    bucket: str,
) -> Released:
    home = tmp_path / "released"
    home.mkdir()
    return Released(released_python, home, weed, bucket)


@pytest.fixture
def repository(
    keys: None, weed: seaweedfs.SeaweedFS, bucket: str, tmp_path: Path
) -> audmodel.Repository:
    repository = audmodel.Repository(bucket, weed.url, "minio")
    audmodel.config.REPOSITORIES = [repository]
    audmodel.config.CACHE_ROOT = str(tmp_path / "cache")
    return repository


@pytest.fixture(params=["small", "large"])
def model(request: pytest.FixtureRequest, model_folder: Path) -> Path:
    if request.param == "large":
        noise = hashlib.shake_128(b"noise").digest(20 * MIB)
        (model_folder / "weights.bin").write_bytes(noise)
    return model_folder


def test_it_reads_what_we_publish(
    released: Released, repository: audmodel.Repository, model: Path
) -> None:
    uid = audmodel.publish(
        str(model),
        "torch",
        {"rate": 16000, "data": ["a", "b"]},
        "1.0.0",
        subgroup="emotion.small",
        author="tester",
        alias="best",
        meta={"uar": 0.7},
        num_workers=3,
    )
    result = released.run(
        "uid = audmodel.resolve_alias('best')\n"
        "result = [uid, audmodel.load(uid), audmodel.meta(uid),"
        " audmodel.parameters(uid), audmodel.aliases(uid),"
        " audmodel.versions(uid.split('-')[0]), audmodel.author('best')]"
    )
    assert result[0] == uid
    assert files(result[1]) == files(model)
    assert result[2:] == [
        {"uar": 0.7},
        {"rate": 16000, "data": ["a", "b"]},
        ["best"],
        ["1.0.0"],
        "tester",
    ]


@pytest.mark.sample(1)
def test_we_read_what_it_publishes(
    released: Released, repository: audmodel.Repository, model: Path
) -> None:
    uid = released.run(
        f"result = audmodel.publish({str(model)!r}, 'torch', {{'rate': 16000}},"
        " '1.0.0', subgroup='a.b', author='tester', alias='best',"
        " meta={'uar': 0.7}, repository=repository)"
    )
    assert audmodel.resolve_alias("best") == uid
    assert files(audmodel.load("best", num_workers=4)) == files(model)
    assert audmodel.meta(uid) == {"uar": 0.7}
    assert audmodel.parameters(uid) == {"rate": 16000}
    assert audmodel.aliases(uid) == ["best"]
    assert audmodel.versions(uid) == ["1.0.0"]
    assert audmodel.author(uid) == "tester"


@pytest.mark.thorough
def test_both_change_the_same_records(
    released: Released, repository: audmodel.Repository, model_folder: Path
) -> None:
    uid = audmodel.publish(
        str(model_folder), "torch", {}, "1.0.0", alias="ours", meta={"a": 1}
    )
    released.run(
        f"audmodel.update_meta({uid!r}, {{'b': 2}})\n"
        f"audmodel.set_alias('theirs', {uid!r})\n"
    )
    audmodel.update_meta(uid, {"c": 3})
    audmodel.set_alias("more", uid)
    result = released.run(
        f"result = [audmodel.meta({uid!r}), sorted(audmodel.aliases({uid!r}))]"
    )
    assert result == [{"a": 1, "b": 2, "c": 3}, ["more", "ours", "theirs"]]
    assert audmodel.meta(uid) == {"a": 1, "b": 2, "c": 3}
    assert sorted(audmodel.aliases(uid)) == ["more", "ours", "theirs"]


def test_a_model_cannot_be_published_twice(
    released: Released, repository: audmodel.Repository, model_folder: Path
) -> None:
    audmodel.publish(str(model_folder), "torch", {}, "1.0.0", subgroup="a")
    error = released.run(
        "try:\n"
        f"    audmodel.publish({str(model_folder)!r}, 'torch', {{}}, '1.0.0',"
        " subgroup='a', repository=repository)\n"
        "except Exception as error:\n"
        "    result = type(error).__name__"
    )
    assert error == "RuntimeError"


@pytest.mark.sample(1)
def test_objects_have_the_same_metadata(
    released: Released,
    repository: audmodel.Repository,
    model: Path,
    weed: seaweedfs.SeaweedFS,
    bucket: str,
) -> None:
    released.run(
        f"result = audmodel.publish({str(model)!r}, 'theirs', {{}}, '1.0.0',"
        " subgroup='a', alias='theirs', meta={'uar': 0.7}, repository=repository)"
    )
    theirs = describe(weed, bucket)
    audmodel.publish(
        str(model), "ours", {}, "1.0.0", subgroup="a", alias="ours", meta={"uar": 0.7}
    )
    ours = {k: v for k, v in describe(weed, bucket).items() if k not in theirs}
    assert sorted(theirs.values()) == sorted(ours.values())
    client = weed.client()
    for key in ours:
        response = client.get_object(Bucket=bucket, Key=key)
        md5 = hashlib.md5(response["Body"].read(), usedforsecurity=False).hexdigest()
        assert response["Metadata"]["checksum"] == md5
        # Ours tells our own write from another one
        assert set(response["Metadata"]) - {"write-id"} == {"checksum", "owner"}


def describe(weed: seaweedfs.SeaweedFS, bucket: str) -> dict[str, tuple[str, ...]]:
    """Suffix, content type and owner of all objects."""
    client = weed.client()
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket)["Contents"]]
    responses = {key: client.head_object(Bucket=bucket, Key=key) for key in keys}
    return {
        key: (
            key.split("/")[0],
            "".join(Path(key).suffixes[-2:]),
            response["ContentType"],
            response["Metadata"]["owner"],
        )
        for key, response in responses.items()
    }


@pytest.mark.sample(1)
def test_audbackend_validates_what_we_publish(
    released: Released, repository: audmodel.Repository, model: Path
) -> None:
    audmodel.publish(str(model), "torch", {}, "1.0.0", subgroup="a", num_workers=2)
    count = released.run(
        "import tempfile\n"
        "with repository.create_backend_interface().backend as backend:\n"
        "    paths = backend.ls('/')\n"
        "    for path in paths:\n"
        "        backend.get_file(path, tempfile.mktemp(), validate=True)\n"
        "result = len(paths)"
    )
    assert count == 3


@pytest.mark.thorough
def test_a_cache_is_shared(
    released: Released,
    repository: audmodel.Repository,
    model_folder: Path,
    weed: seaweedfs.SeaweedFS,
    bucket: str,
    tmp_path: Path,
) -> None:
    cache = tmp_path / "shared"
    ours = audmodel.publish(str(model_folder), "torch", {}, "1.0.0")
    theirs = audmodel.publish(str(model_folder), "torch", {}, "2.0.0")
    root = released.run(f"result = audmodel.load({ours!r})", cache)
    with Proxy(weed.host) as proxy:
        audmodel.config.REPOSITORIES = [audmodel.Repository(bucket, proxy.url, "minio")]
        assert audmodel.load(ours, cache_root=str(cache)) == root
        assert not proxy.requests
    audmodel.config.REPOSITORIES = [repository]
    root = audmodel.load(theirs, cache_root=str(cache))
    inode = Path(root, "model.yaml").stat().st_ino
    assert released.run(f"result = audmodel.load({theirs!r})", cache) == root
    assert Path(root, "model.yaml").stat().st_ino == inode
