"""`trackdl serve`: a registered model behind MLflow's scoring server, on this machine, with limits."""

import logging
import socket
import threading
import time
from asyncio import TimerHandle, Transport
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager

import torch
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from trackdl.errors import InputError, TrackdlError
from trackdl.serving.guard import Guard
from trackdl.serving.server import ModelScorer
from trackdl.system.console import say
from trackdl.tracking.registry.files import find, verified
from trackdl.tracking.registry.versions import holder
from trackdl.tracking.store import translate_errors

log = logging.getLogger(__name__)

LOCAL = ("127.0.0.1", "localhost", "::1")
_CONNECTIONS = 200  # open ones: fewer than the files that a process may open anywhere (macOS: 256)
_PATIENCE = 10  # seconds in which the head of a request must arrive, the first or the next one
_CHAMPION_AGE = 10  # seconds: how often the registry is asked which version is champion


def serve(uri: str, host: str, port: int, hosts: Collection[str] = (), *, reload: bool = False) -> None:
    """Serve the model `models:/NAME@ALIAS` or `models:/NAME/VERSION` until interrupted.

    Args:
        uri: The model.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        hosts: Further names by which the server may be asked.
        reload: Whether to go on with the version that the alias moves to.

    Raises:
        InputError: There is no such model, or the port is taken.
        TrackdlError: The version's files are not those that were registered.
    """
    if reload and "@" not in uri:
        raise InputError("--reload follows an alias, and a version does not move: name a model, or --alias too")
    found = find(uri)
    with ExitStack() as stack:
        watch = _Watch(found.name, uri.partition("@")[2], str(found.version))
        app = Guard(watch.load(stack), hosts=[host, *hosts], champion=watch.champion)
        listener, address = stack.enter_context(listening(host, port))
        say(f"{found.name} version {found.version} answers at {address}/invocations; Ctrl-C stops it")
        if reload:
            threading.Thread(target=watch.follow, args=(app, stack), daemon=True).start()
        run(app, listener)


class _Watch:
    """The alias by which a served model was asked for, which a training or a person may move."""

    def __init__(self, name: str, alias: str, version: str) -> None:
        self.name, self.alias, self.version = name, alias, version
        self._champion: tuple[float, str | None] = (-1e9, None)

    def load(self, stack: ExitStack) -> ModelScorer:
        """Return the version, ready to answer; its files stay as long as the stack."""
        folder = stack.enter_context(verified(find(f"models:/{self.name}/{self.version}")))
        return ModelScorer(folder, self.name, self.version)

    def champion(self) -> str | None:
        """Return the version that is champion, as of at most `_CHAMPION_AGE` ago; None if the store does not say."""
        if time.monotonic() - self._champion[0] > _CHAMPION_AGE:
            self._champion = (time.monotonic(), self._held_by("champion"))
        return self._champion[1]

    def _held_by(self, alias: str) -> str | None:
        try:
            with translate_errors(f"{self.name}@{alias}"):
                held = holder(self.name, alias)
        except TrackdlError as error:
            log.warning("%s", error)
            return None
        return str(held.version) if held else None

    def follow(self, app: Guard, stack: ExitStack) -> None:
        """Do `look` again and again; never returns."""
        while True:
            time.sleep(_CHAMPION_AGE)
            self.look(app, stack)

    def look(self, app: Guard, stack: ExitStack) -> None:
        """Have the app answer by the version that the alias has moved to, if it has."""
        version = self._held_by(self.alias)
        if version in (None, self.version):
            return
        self.version = str(version)  # also if it cannot be loaded: it is tried once
        try:
            scorer = self.load(stack)
            scorer.start()
        except Exception as error:  # whatever it is, the version before goes on
            log.warning("version %s is %s now, but cannot be served: %s", version, self.alias, error)
            return
        app.replace(scorer)
        say(f"{self.name} version {version} answers now: it is {self.alias}")


class Protocol(H11Protocol):
    """uvicorn's protocol, with limits for clients that send nothing, or half a request.

    uvicorn limits only the time between an answer and the next request, and it refuses new clients while all
    connections are taken. Here the first request has to arrive in time as well, and a new client takes the place of the
    one that has kept the server waiting longest.
    """

    _timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Take a new client's connection."""
        super().connection_made(transport)
        self._expect()
        if len(self.connections) >= _CONNECTIONS:
            waiting = [one for one in self.connections if isinstance(one, Protocol) and one.keeps_waiting()]
            min(waiting, key=lambda one: one.since).transport.abort()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._expect()

    def keeps_waiting(self) -> bool:
        """Return whether the client has not sent all of its request, or has not taken all of its answer."""
        return self._is_idle() or self.cycle.more_body or self.cycle.response_started

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _expect(self) -> None:
        """Close the connection unless a request's head arrives in time."""
        self.since = self.loop.time()
        if self._timer:
            self._timer.cancel()
        self._timer = self.loop.call_later(_PATIENCE, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self._is_idle():
            self.transport.close()


def run(app: ASGIApp, listener: socket.socket) -> None:
    """Answer at a listening socket until SIGINT or SIGTERM."""
    # Requests are answered in parallel, a thread each; these networks gain nothing from more.
    torch.set_num_threads(1)
    config = uvicorn.Config(
        app, http=Protocol, log_level="warning", limit_concurrency=_CONNECTIONS, timeout_keep_alive=_PATIENCE
    )
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
            raise InputError(f"cannot listen on {host}, port {port}: {error.strerror}. Give another --port") from error
        listener.listen(128)
        if host not in LOCAL:
            log.warning("%s can be reached from other machines, without a password", host)
        shown = f"[{host}]" if ":" in host else host
        yield listener, f"http://{shown}:{listener.getsockname()[1]}"
