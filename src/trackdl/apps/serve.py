"""`trackdl serve`: a registered model behind MLflow's scoring server, on this machine, with limits."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import uvicorn
from starlette.types import ASGIApp

from trackdl.errors import InputError
from trackdl.serving import server
from trackdl.system.console import say
from trackdl.tracking.registry.files import find, verified

log = logging.getLogger(__name__)

_LOCAL = ("127.0.0.1", "localhost", "::1")
# Open connections; uvicorn answers further ones with 503 until others are closed.
_CONNECTIONS = 256


def serve(uri: str, host: str, port: int) -> None:
    """Serve the model `models:/NAME@ALIAS` or `models:/NAME/VERSION` until interrupted; port 0 takes a free one.

    Raises:
        InputError: There is no such model, or the port is taken.
        TrackdlError: The version's files are not those that were registered.
    """
    found = find(uri)
    with verified(found) as folder:
        app = server.build(folder, found.name, str(found.version))
    with listening(host, port) as (listener, address):
        say(f"{found.name} version {found.version} answers at {address}/invocations; Ctrl-C stops it")
        run(app, listener)


def run(app: ASGIApp, listener: socket.socket) -> None:
    """Answer at a listening socket until SIGINT or SIGTERM."""
    # Requests are answered in parallel, a thread each; these networks gain nothing from more.
    torch.set_num_threads(1)
    config = uvicorn.Config(app, log_level="warning", limit_concurrency=_CONNECTIONS, timeout_keep_alive=10)
    uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def listening(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """Yield a listening socket and its address as a URL.

    Raises:
        InputError: The port is taken, or the host is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only if the protocol is given; without it an answer waits 40 ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise InputError(f"cannot listen at {host}, port {port}: {error.strerror}. Give another --port") from error
        listener.listen(128)
        if host not in _LOCAL:
            log.warning("%s can be reached from other machines, without a password", host)
        shown = f"[{host}]" if ":" in host else host
        yield listener, f"http://{shown}:{listener.getsockname()[1]}"
