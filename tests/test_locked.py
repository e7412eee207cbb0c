"""Environments have exactly the versions that are locked in requirements/."""

from __future__ import annotations

import itertools
from pathlib import Path
import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
import pytest

from tests.conftest import ROOT


# Files, and the groups of dependencies that each of them locks
LOCKED = {
    "demo": ["project"],
    "build": ["project", "build"],
    "test": ["project", "extras", "test"],
    "all": ["project", "extras", "all"],
    "check": ["project", "extras", "check"],
    "bench": ["project", "extras", "bench"],
    "oldest": ["project", "extras", "build", "test"],
    "released": ["released"],
    "lock": ["lock"],
}


def wanted(name: str) -> dict[str, Requirement]:
    """What pyproject.toml asks for in a group, and in the groups it includes."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = content["project"]["optional-dependencies"]
    groups = {
        **content["dependency-groups"],
        "project": content["project"]["dependencies"],
        "extras": list(itertools.chain(*extras.values())),
    }
    found: dict[str, Requirement] = {}
    for entry in groups[name]:
        if isinstance(entry, dict):
            found |= wanted(entry["include-group"])
        else:
            requirement = Requirement(entry)
            found[str(canonicalize_name(requirement.name))] = requirement
    return found


def locked(name: str) -> tuple[dict[str, str], set[str]]:
    """Versions in a locked file, and those packages that pyproject.toml asks for."""
    versions: dict[str, str] = {}
    direct = set()
    package = ""
    for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines():
        if found := re.match(r"([a-z0-9._-]+)==(\S+)", line):
            package = found[1]
            versions[package] = found[2]
        elif re.fullmatch(r" +# .*\bpyproject\.toml\b.*", line):
            direct.add(package)
    return versions, direct


@pytest.mark.parametrize("name", LOCKED)
def test_locked_versions_are_those_of_the_project(name: str) -> None:
    requirements: dict[str, Requirement] = {}
    for group in LOCKED[name]:
        requirements |= wanted(group)
    versions, direct = locked(name)
    assert direct == set(requirements), "pyproject.toml has changed: run 'make lock'"
    for package, requirement in requirements.items():
        assert versions[package] in requirement.specifier, "run 'make lock'"


@pytest.mark.parametrize("name", LOCKED)
def test_locked_files_have_hashes_and_name_no_registry(name: str) -> None:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    assert not [line for line in lines if "://" in line or "index-url" in line]
    for line, following in itertools.pairwise(lines):
        if "==" in line:
            assert "--hash=sha256:" in following


SCRIPTS = [
    path
    for path in sorted((ROOT / "benchmarks").glob("*.py"))
    if "# /// script" in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_benchmarks_have_what_they_ask_for(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    block = text.split("# /// script")[1].split("# ///")[0]
    metadata = tomllib.loads(block.replace("\n# ", "\n").replace("\n#\n", "\n\n"))
    versions, _ = locked("bench")
    for requirement in map(Requirement, metadata["dependencies"]):
        # The package itself is that of the checkout
        if requirement.name != "audmodel":
            assert versions[requirement.name] in requirement.specifier


def test_every_locked_file_is_checked() -> None:
    assert {path.stem for path in (ROOT / "requirements").iterdir()} == set(LOCKED)


def test_one_environment_can_grow() -> None:
    versions: dict[str, set[str]] = {}
    for name in ("demo", "build", "test", "all", "check", "bench"):
        for package, version in locked(name)[0].items():
            versions.setdefault(package, set()).add(version)
    assert {name for name, found in versions.items() if len(found) > 1} == set()


def test_oldest_versions_are_the_lower_bounds() -> None:
    versions, _ = locked("oldest")
    for package, requirement in (wanted("project") | wanted("extras")).items():
        (bound,) = (s.version for s in requirement.specifier if s.operator == ">=")
        assert versions[package].split(".")[:2] == bound.split(".")[:2]
