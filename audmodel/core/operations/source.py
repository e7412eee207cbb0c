r"""What a model was made from: a commit, and the page of a CI job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import os
from typing import NamedTuple

from audmodel.core.backend.host import without_login
from audmodel.core.errors import InvalidInputError


MAX_LENGTH = 500
_KEYS = ("commit", "url")


class Source(NamedTuple):
    r"""What a model was made from.

    Args:
        commit: commit of the code, if it is known
        url: page of the job, or other place, if it is known

    """

    commit: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class _System:
    r"""Variables that a CI system sets in its jobs.

    Args:
        marker: the one that tells the system
        commit: the one that holds the commit
        url: the page of the job, in which names stand for variables

    """

    marker: str
    commit: str
    url: str


_SYSTEMS = (
    _System(
        "GITHUB_ACTIONS",
        "GITHUB_SHA",
        "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}",
    ),
    _System("GITLAB_CI", "CI_COMMIT_SHA", "{CI_JOB_URL}"),
    _System("JENKINS_URL", "GIT_COMMIT", "{BUILD_URL}"),
    _System("CIRCLECI", "CIRCLE_SHA1", "{CIRCLE_BUILD_URL}"),
    _System("BUILDKITE", "BUILDKITE_COMMIT", "{BUILDKITE_BUILD_URL}"),
    _System(
        "BITBUCKET_BUILD_NUMBER",
        "BITBUCKET_COMMIT",
        "{BITBUCKET_GIT_HTTP_ORIGIN}/pipelines/results/{BITBUCKET_BUILD_NUMBER}",
    ),
    _System(
        "TF_BUILD",
        "BUILD_SOURCEVERSION",
        "{SYSTEM_COLLECTIONURI}{SYSTEM_TEAMPROJECT}"
        "/_build/results?buildId={BUILD_BUILDID}",
    ),
)


def of_job() -> Source:
    r"""What the environment says of a CI job.

    Returns:
        commit and page of the job, empty outside of one

    """
    for system in _SYSTEMS:
        if os.environ.get(system.marker):
            try:
                url = system.url.format_map(os.environ)
            except KeyError:
                url = ""
            return Source(
                _usable(os.environ.get(system.commit, "")), _usable(without_login(url))
            )
    return Source()


def check(source: Mapping[str, str] | None) -> Source:
    r"""What a user says of the source, or else the environment.

    Args:
        source: ``'commit'``, ``'url'``, or both,
            ``None`` for what the environment says

    Returns:
        commit and page

    Raises:
        TypeError: if something is of the wrong type
        InvalidInputError: if a key or a value is not allowed

    """
    if source is None:
        return of_job()
    if not isinstance(source, Mapping):
        raise TypeError(f"'source' has to be a dictionary, not {source!r}.")
    for key, value in source.items():
        if key not in _KEYS:
            raise InvalidInputError(
                f"'source' has the unknown key {key!r}, known are: {', '.join(_KEYS)}."
            )
        if not isinstance(value, str):
            raise TypeError(f"'{key}' of 'source' has to be a string, not {value!r}.")
        if _usable(value) is None:
            raise InvalidInputError(
                f"'{key}' of 'source' has to be printable text "
                f"of 1 to {MAX_LENGTH} characters, not {value[:100]!r}."
            )
    if without_login(source.get("url", "")) != source.get("url", ""):
        raise InvalidInputError(
            "'url' of 'source' holds a user or password. Leave them out: "
            "all people who can read the repository can read it."
        )
    return Source(**source)


def _usable(text: str) -> str | None:
    is_usable = 0 < len(text) <= MAX_LENGTH and text.isprintable()
    return text if is_usable else None
