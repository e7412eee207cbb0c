r"""The configuration in effect."""

from __future__ import annotations

import argparse
import os

import audmodel
from audmodel.cli import output
from audmodel.cli.command import Command
from audmodel.cli.command import Result
from audmodel.core.repository.config import CONFIG_FILE
from audmodel.core.repository.config import REPOSITORIES_VARIABLE
from audmodel.core.repository.config import check_backend
from audmodel.core.repository.config import environment_repositories
from audmodel.core.repository.config import redacted
from audmodel.core.repository.config import shown_host
from audmodel.core.repository.config import user_settings


# Variables with these prefixes may hold secrets, those of audmodel do not
_SECRET_PREFIXES = ("MINIO_", "ARTIFACTORY_", "AWS_")


def _config(_: argparse.Namespace) -> Result:
    path = os.path.expanduser(CONFIG_FILE)
    settings = user_settings()

    for repository in audmodel.config.REPOSITORIES:
        check_backend(repository)

    def origin(key: str) -> str:
        return path if key in settings else "default"

    cache_root = {
        "value": audmodel.default_cache_root(),
        "from": (
            "environment"
            if os.environ.get("AUDMODEL_CACHE_ROOT")
            else origin("cache_root")
        ),
    }
    found_in = "environment" if environment_repositories() else origin("repositories")
    repositories = [
        {
            "label": repository.label,
            "name": repository.name,
            "host": shown_host(repository),
            "backend": repository.backend,
        }
        for repository in audmodel.config.REPOSITORIES
    ]
    variables = {
        name: "set" if name.startswith(_SECRET_PREFIXES) else _shown(name, value)
        for name, value in sorted(os.environ.items())
        if name.startswith(("AUDMODEL_", *_SECRET_PREFIXES)) and value
    }
    data = {
        "file": path if os.path.exists(path) else None,
        "cache_root": cache_root,
        "repositories": {"value": repositories, "from": found_in},
        "environment": variables,
    }
    rows = [
        ("file", path, "" if data["file"] else "does not exist"),
        ("cache_root", *cache_root.values()),
        *(
            (
                f"repository {repository['label'] or ''}".rstrip(),
                ":".join(
                    (
                        str(repository["backend"]),
                        str(repository["host"]),
                        str(repository["name"]),
                    )
                ),
                found_in,
            )
            for repository in repositories
        ),
        *((name, value, "environment") for name, value in variables.items()),
    ]
    return Result(data, output.table(("setting", "value", "from"), rows))


def _shown(name: str, value: str) -> str:
    return redacted(value) if name == REPOSITORIES_VARIABLE else value


CONFIG = Command(
    "config",
    "show the configuration in effect, and where it comes from",
    lambda _: None,
    _config,
    "audmodel config --json",
    "Values of variables that may hold secrets are not shown.",
)
