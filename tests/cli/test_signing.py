"""Models are signed, and their signatures shown, from a shell."""

from __future__ import annotations

from pathlib import Path

import pytest

import audmodel
from tests.cli.conftest import Call
from tests.cli.conftest import configure
from tests.operations.test_signatures import make_key
from tests.operations.test_signatures import public


@pytest.fixture
def key(home: Path, tmp_path: Path, uid: str, place: audmodel.Repository) -> Path:
    """Key that the configuration trusts with some subgroups."""
    key = make_key(tmp_path, "alice")
    (home / "signers").write_text(f"alice {public(key)}")
    configure(
        home,
        f"""
        cache_root: {tmp_path}/empty
        repositories:
          - name: models
            host: {place.host}
            backend: file-system
            trusted:
              emotion.*: ~/signers
        """,
    )
    return key


def test_model_is_signed(call: Call, uid: str, key: Path) -> None:
    refused = call("load", uid)
    assert (refused.code, refused.out) == (3, "")
    assert "not signed" in refused.err
    shown = call("verify", uid, "--signatures")
    assert shown.code == 3
    assert "not signed" in shown.out
    signed = call("sign", uid, "--key", key)
    assert (signed.code, signed.out, signed.err) == (0, f"{uid}\n", "")
    shown = call("verify", uid, "--signatures")
    assert shown.code == 0
    assert {"trusted", "alice"} <= set(shown.out.split())
    (data,) = call("verify", uid, "--signatures", "--json").data
    assert data["signatures"][0]["trusted"] is True
    assert call("load", uid).code == 0


def test_environment_does_not_switch_signatures_off(
    call: Call,
    uid: str,
    key: Path,
    place: audmodel.Repository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AUDMODEL_REPOSITORIES", f"file-system:{place.host}:models")
    assert call("load", uid).code == 3
