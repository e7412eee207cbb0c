r"""Private parts of boto3 and botocore that are used nevertheless.

Nothing public does the same, as each function says.
All of it was seen with the versions below,
and ``tests/backends/test_s3_private.py`` finds out
whether it is still there, and behaves as it did.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any
from typing import cast

from audmodel.core.backend.http.transfer import Stream


#: Versions of boto3, the oldest that is allowed first
SEEN_WITH = ("1.36.0", "1.44.8")


def default_session() -> Any:
    r"""Session that ``boto3.setup_default_session()`` made, ``None`` if there is none.

    The functions of boto3 that use it make one if there is none,
    and with it choose a profile for all that follows.
    """
    import boto3

    return boto3.DEFAULT_SESSION


def _free_default_session() -> None:
    r"""Let a fork renew credentials that another thread was about to renew.

    That thread does not exist in the fork, and the lock that it holds stays locked.
    Sessions of our own are made anew, that of the program is not ours to replace.
    """
    if "boto3" not in sys.modules or (session := default_session()) is None:
        return
    credentials: Any = core(session)._credentials  # noqa: SLF001
    if hasattr(credentials, "_refresh_lock"):
        credentials._refresh_lock = threading.Lock()  # noqa: SLF001


os.register_at_fork(after_in_child=_free_default_session)


def core(session: Any) -> Any:
    r"""Session of botocore behind one of boto3.

    That of boto3 does not say which certificates are configured,
    and looks for credentials only once.

    """
    return session._session  # noqa: SLF001


def read_credentials(session: Any) -> Any:
    r"""Credentials that are found now, ``None`` if there are none."""
    return core(session).get_component("credential_provider").load_credentials()


def descriptions(path: str | None) -> Any:
    r"""Loader of descriptions of services.

    That of botocore looks into the folders of all services to find one.

    Args:
        path: folders with further descriptions

    """
    from botocore.loaders import create_loader

    class Every(list[str]):
        def __contains__(self, name: object) -> bool:
            return True

    loader: Any = create_loader(path)
    loader.list_available_services = lambda type_name: Every()
    return loader


def leave_metadata_service(core: Any) -> None:
    r"""Do not look for credentials of the machine.

    There is a variable for it, but not for a single session.
    """
    core.get_component("credential_provider").remove("iam-role")


def stop_asking(client: Any) -> None:
    r"""Send bodies without ``Expect: 100-continue``.

    It takes a round trip for each write, and cannot be configured.
    """
    from botocore import handlers

    client.meta.events.unregister("before-call.s3", handlers.add_expect_header)


def pool_classes(client: Any) -> dict[str, Any]:
    r"""Classes of pools of connections by scheme, which may be replaced.

    All managers of connections of the client share this dictionary,
    and botocore accepts no other connection classes.

    Returns:
        classes of urllib3

    """
    return cast(
        dict[str, Any],
        client._endpoint.http_session._pool_classes_by_scheme,  # noqa: SLF001
    )


def http_session(client: Any) -> Any:
    r"""Session that sends the requests of a client: ``send(request)``, ``close()``."""
    return client._endpoint.http_session  # noqa: SLF001


def set_http_session(client: Any, session: Any) -> None:
    r"""Let another session send the requests of a client.

    The public event before a request can answer it,
    but does not see the response of the server.
    """
    client._endpoint.http_session = session  # noqa: SLF001


def leave_body(request: Any) -> bool:
    r"""Do not read the body of the response while a request is sent.

    botocore would read a body of any length.
    The result says whether it would have left it anyway.
    """
    streams: bool = request.stream_output
    request.stream_output = True
    return streams


def set_body(response: Any, body: bytes) -> None:
    r"""Set the body of a response that was read."""
    response._content = body  # noqa: SLF001


def stream(body: Any) -> Stream:
    r"""Body of a response as urllib3 gives it.

    The stream of botocore waits for as many bytes as it is asked for,
    for ever if they come one by one.

    """
    return cast(Stream, body._raw_stream)  # noqa: SLF001
