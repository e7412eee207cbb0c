"""What a process knows of servers that it met."""

from __future__ import annotations

from audmodel.core.backend.artifactory import server as artifactory_requests
from audmodel.core.backend.s3 import client as s3_client
from audmodel.core.backend.s3 import conditions as s3_conditions
from audmodel.core.backend.s3 import copying as s3_copying


def forget_servers() -> None:
    """Close all connections, and know nothing of servers any more."""
    for shared in (s3_client._clients, artifactory_requests._sessions):
        for value in shared._values.values():
            value.close()
        shared._values.clear()
    s3_conditions._verdicts._values.clear()
    s3_copying._known._values.clear()
    artifactory_requests._known_repositories.clear()
