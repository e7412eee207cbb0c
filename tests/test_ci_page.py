"""The examples for CI systems are YAML, and their commands publish a model."""

from __future__ import annotations

import os
from pathlib import Path
import re
import subprocess
import sys
import textwrap
from typing import Any

import pytest
import yaml

import audmodel
from tests.conftest import ROOT
from tests.test_docs import AUDMODEL


TRAIN = """
import os, sys
os.makedirs(sys.argv[1])
with open(os.path.join(sys.argv[1], "model.onnx"), "wb") as file:
    file.write(bytes(100))
"""


OTHERS = f'pip() {{ :; }}\npython() {{ "{sys.executable}" "$@"; }}\n'


def script() -> str:
    """Commands of the page that stand outside of a job."""
    page = (ROOT / "docs" / "ci.rst").read_text("utf-8")
    [text] = re.findall(r"code-block:: bash\n\n((?:    .*\n)+)", page)
    return textwrap.dedent(text)


def examples() -> dict[str, Any]:
    """YAML of the page, by caption."""
    page = (ROOT / "docs" / "ci.rst").read_text("utf-8")
    blocks = re.findall(
        r"^\.\. code-block:: yaml\n    :caption: (.*)\n\n((?:    .*\n|\n)+)",
        page,
        re.MULTILINE,
    )
    assert len(blocks) == page.count("code-block:: yaml")
    return {title: yaml.safe_load(textwrap.dedent(text)) for title, text in blocks}


GITHUB = ".github/workflows/publish.yaml"
GITLAB = ".gitlab-ci.yml"


def test_examples_are_yaml() -> None:
    found = examples()
    assert list(found) == [GITHUB, GITLAB, "GitHub Actions", "GitLab CI"]
    # YAML reads the key "on" as true, as GitHub expects it
    assert set(found[GITHUB]) == {"name", True, "permissions", "env", "jobs"}
    assert set(found[GITHUB]["jobs"]) == {"publish", "release"}
    for job in found[GITHUB]["jobs"].values():
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])
    jobs = [name for name, job in found[GITLAB].items() if "script" in job]
    assert jobs == ["publish", "release", "rollback"]


class Runner:
    """Runs the scripts of jobs in a folder, without pip and with a small training.

    The only thing that it changes is the repository.
    """

    def __init__(self, folder: Path, repository: audmodel.Repository) -> None:
        self.folder = folder
        place = f"{repository.backend}:{repository.host}:{repository.name}"
        self.variables = {"AUDMODEL_REPOSITORIES": place}
        (folder / "train.py").write_text(TRAIN)
        (folder / "params.yaml").write_text("sampling_rate: 16000\n")

    def run(self, script: str, variables: dict[str, str]) -> str:
        """Output of a script, which has to succeed."""
        result = subprocess.run(
            ["bash", "-e", "-c", f"{AUDMODEL}{OTHERS}{script}"],
            cwd=self.folder,
            env={**os.environ, **variables, **self.variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout


def github(runner: Runner, workflow: dict[str, Any], version: str) -> None:
    """Run the jobs of a workflow, one after the other."""
    outputs: dict[str, str] = {}

    def value(text: str) -> str:
        return re.sub(
            r"\$\{\{ *([\w.]+) *\}\}",
            lambda match: (
                "secret"
                if match[1].startswith("secrets.")
                else outputs[match[1].rpartition(".")[2]]
            ),
            text,
        )

    output = runner.folder / "output"
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            if "run" not in step:
                continue
            given = {**workflow["env"], **step.get("env", {})}
            variables = {name: value(text) for name, text in given.items()}
            variables |= {
                "GITHUB_ACTIONS": "true",
                "GITHUB_ACTOR": "sphinx",
                "GITHUB_OUTPUT": str(output),
                "GITHUB_REF_NAME": f"v{version}",
                "GITHUB_REPOSITORY": "team/models",
                "GITHUB_RUN_ID": version,
                "GITHUB_SERVER_URL": "https://github.com",
                "GITHUB_SHA": "1b8d2f1",
            }
            output.write_text("")
            runner.run(step["run"], variables)
            for line in output.read_text().splitlines():
                name, _, outputs[name] = line.partition("=")


def gitlab(
    runner: Runner, pipeline: dict[str, Any], version: str, jobs: list[str]
) -> None:
    """Run jobs of a pipeline, one after the other."""
    variables = {
        **pipeline["variables"],
        "CI_COMMIT_SHA": "1b8d2f1",
        "CI_COMMIT_TAG": f"v{version}",
        "GITLAB_CI": "true",
        "GITLAB_USER_LOGIN": "sphinx",
    }
    for name in jobs:
        job = pipeline[name]
        assert job["stage"] in pipeline["stages"]
        variables["CI_JOB_URL"] = f"https://gitlab.com/jobs/{name}"
        lines = [*pipeline["default"]["before_script"], *job["script"]]
        runner.run("\n".join(lines), variables)
        if "artifacts" in job:
            path = runner.folder / job["artifacts"]["reports"]["dotenv"]
            pairs = (line.partition("=") for line in path.read_text().splitlines())
            variables |= {key: value for key, _, value in pairs}


@pytest.fixture
def runner(
    tmp_path: Path, home: Path, repository: audmodel.Repository, cache: Path
) -> Runner:
    folder = tmp_path / "job"
    folder.mkdir()
    return Runner(folder, repository)


def again(runner: Runner) -> None:
    """Let the next job begin without what the last one made."""
    for path in (runner.folder / "model").iterdir():
        path.unlink()
    (runner.folder / "model").rmdir()


@pytest.mark.thorough
def test_github(runner: Runner) -> None:
    workflow = examples()[GITHUB]
    github(runner, workflow, "1.0.0")
    uid = audmodel.resolve_alias("prod")
    assert audmodel.aliases(uid) == ["prod", "staging"]
    assert (audmodel.version(uid), audmodel.author(uid)) == ("1.0.0", "sphinx")
    found = audmodel.provenance(uid)
    assert found.commit == "1b8d2f1"
    assert found.url == "https://github.com/team/models/actions/runs/1.0.0"
    assert uid.replace("-", "/", 1) in runner.run(script(), {})
    assert (runner.folder / "model.id").read_text() == f"{uid}\n"
    # A job that runs again
    again(runner)
    github(runner, workflow, "1.0.0")
    again(runner)
    github(runner, workflow, "1.1.0")
    moves = audmodel.alias_history("prod")
    assert [(move.author, move.url) for move in moves] == [
        ("sphinx", found.url),
        ("sphinx", found.url.replace("1.0.0", "1.1.0")),
    ]


@pytest.mark.thorough
def test_gitlab(runner: Runner) -> None:
    pipeline = examples()[GITLAB]
    for version in ("1.0.0", "1.1.0"):
        gitlab(runner, pipeline, version, ["publish", "release"])
        again(runner)
    gitlab(runner, pipeline, "1.1.0", ["rollback"])
    assert audmodel.version("prod") == "1.0.0"
    assert audmodel.version("staging") == "1.1.0"
    moves = audmodel.alias_history("prod")
    assert [move.url for move in moves] == [
        f"https://gitlab.com/jobs/{name}" for name in ("release", "release", "rollback")
    ]
    # The same files again are no error, others are
    gitlab(runner, pipeline, "1.1.0", ["publish"])
    again(runner)
    (runner.folder / "train.py").write_text(TRAIN.replace("100", "101"))
    with pytest.raises(AssertionError, match=r"\(5, "):
        gitlab(runner, pipeline, "1.1.0", ["publish"])


@pytest.mark.thorough
def test_a_storage_that_does_not_respond_is_tried_again(runner: Runner) -> None:
    runner.variables["AUDMODEL_REPOSITORIES"] = "file-system:/nowhere:models"
    [step] = [
        step
        for step in examples()[GITHUB]["jobs"]["publish"]["steps"]
        if step.get("id") == "publish"
    ]
    log = runner.folder / "pauses"
    script = f'sleep() {{ echo "$1" >> {log}; }}\n{step["run"]}'
    runner.run("python train.py model", {})
    with pytest.raises(AssertionError, match=r"\(4, "):
        runner.run(script, {"GITHUB_REF_NAME": "v1.0.0", "GITHUB_ACTOR": "sphinx"})
    assert log.read_text().split() == ["30", "60"]
