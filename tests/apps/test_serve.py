"""`trackdl serve` below its application: connections that send nothing, and an alias that moves."""

import contextlib
import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from support.served import add_pictures, ask, b64, content, letter
from tools.screens import served
from trackdl.apps import serve
from trackdl.errors import InputError
from trackdl.serving.guard import Guard
from trackdl.tracking.registry import versions

PICTURE = {"inputs": [b64(content(letter()))]}


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(serve, "_PATIENCE", 1)

    async def echo(request: object) -> PlainTextResponse:
        return PlainTextResponse(await request.body())  # type: ignore[attr-defined]

    with served(Starlette(routes=[Route("/", echo, methods=["POST"])])) as address:
        yield urlsplit(address).port or 0


def good(port: int) -> str:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("POST", "/", "hello")
        return connection.getresponse().read().decode()


HALF = {
    "nothing": b"",
    "half a head": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Le",
    "half a body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
}


@pytest.mark.parametrize("sent", HALF)
def test_clients_that_send_half_a_request_hold_nobody_out(port: int, sent: str) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            with contextlib.suppress(OSError):  # the first ones have been closed for the last ones
                client.sendall(HALF[sent])
        assert good(port) == "hello"


@pytest.mark.parametrize("sent", ["nothing", "half a head"])
@pytest.mark.parametrize("before", [b"", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"])
def test_a_head_that_does_not_come_ends_the_connection(port: int, sent: str, before: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        if before:
            client.sendall(before)
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        client.sendall(HALF[sent])
        while client.recv(1000):
            pass


@pytest.mark.slow
def test_a_moved_alias_is_followed_and_told(tracking: str, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    add_pictures()
    watch = serve._Watch("greek-cnn", "champion", "1")
    with ExitStack() as stack:
        app = Guard(watch.load(stack), champion=watch.champion)
        assert ask(app, "", None, "/version", "GET")[1] == {"model": "greek-cnn", "version": "1", "champion": "1"}
        watch.look(app, stack)
        assert app.scorer.version == "1"
        second = add_pictures(seed=2).version
        versions.move("greek-cnn", "champion", second, "a test says so")
        watch._champion = (-1e9, None)
        assert ask(app, "", None, "/version", "GET")[1]["champion"] == second
        watch.look(app, stack)
        assert ask(app, PICTURE)[1]["predictions"][0]["version"] == second
        app.scorer.close()
    assert f"greek-cnn version {second} answers now: it is champion" in capsys.readouterr().out


def test_a_fixed_version_cannot_be_followed() -> None:
    with pytest.raises(InputError, match="--reload follows an alias"):
        serve.serve("models:/greek-cnn/1", "127.0.0.1", 0, reload=True)
