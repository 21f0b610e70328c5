"""What trackdl's servers share: who may ask, how a body is read, and how a refusal looks. Knows Starlette alone."""

import asyncio
import ipaddress
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send


class Door:
    """Middleware that refuses what the page of another site makes a browser send; programs pass.

    - `Host` must be an IP address, localhost or an allowed name: a site whose name is made to point at this server (DNS
      rebinding) is asked for by that name.
    - `Origin`, which browsers add to what pages send, must be this server's own, or of an allowed name.

    Args:
        app: The application behind it.
        hosts: The allowed names, without port; `*` allows all.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        self.app, self.hosts = app, {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send)

    def _refusal(self, headers: Headers) -> Response | None:
        host, origin = headers.get("host", "").lower(), headers.get("origin")
        if "*" in self.hosts:
            return None
        name = _name(f"//{host}")
        if host and name not in self.hosts | {"localhost"} and not _is_address(name):
            words = f"this server is not called {name[:100] or 'that'}"
            return http_error(403, f"{words}; `--allowed-hosts {name[:100] or 'NAME'}` lets it be", "PERMISSION_DENIED")
        if origin and origin.lower().partition("://")[2] != host and _name(origin) not in self.hosts:
            return http_error(403, f"pages of {origin[:100]} may not ask this server", "PERMISSION_DENIED")
        return None


def _name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def read_body(
    request: Request, largest: int, seconds: float, advice: str, refusal: HTTPException | None = None
) -> bytes:
    """Return a request's body.

    A body that is refused is read to its end and dropped, because a client that still sends does not read an answer.

    Args:
        request: The request.
        largest: The largest size allowed, in bytes.
        seconds: The time in which the body must arrive.
        advice: What to do about a body that is too large; ends the message.
        refusal: Raised instead of an answer, if the request is refused whatever its size.

    Raises:
        HTTPException: The body is too large (413) or too late (408), the client has disconnected (400), or `refusal`.
    """
    refused = refusal or HTTPException(413, f"the body is larger than {largest:,} bytes; {advice}")
    largest = -1 if refusal else largest
    if "expect" in request.headers and int(request.headers.get("content-length", "0")) > largest:
        raise refused
    body = bytearray()
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > largest:
                    body.clear()
                else:
                    body += chunk
    except TimeoutError:
        raise HTTPException(408, f"the body had not arrived after {seconds:g} seconds") from None
    except ClientDisconnect:
        raise HTTPException(400, "the client has disconnected") from None
    if size > largest:
        raise refused
    return bytes(body)


def busy(words: str, seconds: int = 2) -> HTTPException:
    """Return the refusal of a request that may be sent again after some seconds."""
    return HTTPException(503, f"{words}; ask again in {seconds} seconds", {"retry-after": str(seconds)})


def http_error(status: int, message: str, code: str = "BAD_REQUEST", headers: Any = None) -> JSONResponse:
    """Return an error in the form of MLflow's server: {"error_code": code, "message": message}."""
    # After 408 and 413 the rest of the body may still be on its way.
    headers = dict(headers or {}) | ({"connection": "close"} if status in (408, 413) else {})
    code = "TEMPORARILY_UNAVAILABLE" if status == 503 else code
    return JSONResponse({"error_code": code, "message": message}, status, headers)


async def _error_response(_: Request, error: HTTPException) -> JSONResponse:
    return http_error(error.status_code, error.detail, headers=error.headers)


# For Starlette's `exception_handlers`.
ERROR_HANDLERS: dict[Any, Any] = {HTTPException: _error_response}
