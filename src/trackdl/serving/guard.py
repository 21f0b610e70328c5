"""The application in front of a model's server: it passes on well-formed requests and answers all others with 4xx.

MLflow's server reads a whole body, whatever its size, and answers what breaks its parser with 500. Here a request's
size, type, nesting and number of items are checked first. Knows Starlette, nothing of MLflow.
"""

import asyncio
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from trackdl.errors import one_line

JSON, CSV = "application/json", "text/csv"
FORMS = ("inputs", "instances", "dataframe_split", "dataframe_records")
# It matches at every quote, an unterminated string's too, and never backtracks: a scan takes linear time.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_EXPECTED = f"expected a JSON object with one of the keys {', '.join(FORMS)}"


@dataclass(frozen=True)
class Limits:
    """The limits of a request.

    Attributes:
        body: Size in bytes.
        items: Number of images or rows.
        depth: Levels of nested lists and objects.
        upload: Seconds in which the body must arrive.
        answer: Seconds in which the request must be answered.
        at_once: Requests processed at the same time; others wait, because each may hold a large image in memory.
    """

    body: int = 10 * 2**20
    items: int = 1024
    depth: int = 16
    upload: float = 30
    answer: float = 60
    at_once: int = 4


class Guard(Starlette):
    """An application that checks the requests to `/invocations`.

    Args:
        answer: Answers a request, given the parsed JSON object or the CSV text, and the content type; runs in a thread.
        app: The application that answers `/ping`, `/health` and `/version`.
        limits: The limits of a request.
    """

    def __init__(self, answer: Callable[[Any, str], Response], app: ASGIApp, limits: Limits | None = None) -> None:
        self.answer, self.limits = answer, limits or Limits()
        # Not anyio's threads: a request that times out would free its place while its thread still runs.
        self._threads = ThreadPoolExecutor(self.limits.at_once, thread_name_prefix="answer")
        routes = [Route(path, app, methods=["GET"]) for path in ("/ping", "/health", "/version")]
        for route in routes:
            route.methods = {"GET"}  # Starlette adds HEAD, which MLflow's application refuses
        routes.append(Route("/invocations", self._invocations, methods=["POST"]))
        super().__init__(routes=routes, exception_handlers=ERROR_HANDLERS | {404: _not_found, 405: _not_allowed})
        self.router.redirect_slashes = False

    async def _invocations(self, request: Request) -> Response:
        kind = _content_type(request.headers)
        body = await read_body(request, self.limits.body, self.limits.upload, "send fewer or smaller items at a time")
        try:
            async with asyncio.timeout(self.limits.answer):
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._work, body, kind)
        except TimeoutError:
            return http_error(503, "the request took too long", "TEMPORARILY_UNAVAILABLE")

    def _work(self, body: bytes, kind: str) -> Response:
        return self.answer(self._parse(body, kind), kind)

    def _parse(self, body: bytes, kind: str) -> Any:
        if not body.strip():
            raise HTTPException(400, f"the body is empty; {_EXPECTED}")
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise HTTPException(400, f"the body is not UTF-8 text (byte {error.start})") from None
        if kind == CSV:
            self._check_count(len(text.splitlines()) - 1)
            return text
        if _is_deeper(body, self.limits.depth):
            raise HTTPException(400, f"lists and objects are nested deeper than {self.limits.depth}; {_EXPECTED}")
        try:
            given = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, f"the body is not JSON: {one_line(error)}") from None
        if not isinstance(given, dict) or len(given) != 1 or (form := next(iter(given))) not in FORMS:
            raise HTTPException(400, f"{_described(given)}; {_EXPECTED}")
        self._check_count(_item_count(form, given[form]))
        return {form: _Uncopied(given[form])} if isinstance(given[form], list) else given

    def _check_count(self, items: int) -> None:
        if items > self.limits.items:
            raise HTTPException(413, f"{items:,} items in one request; at most {self.limits.items:,} are allowed")


class _Uncopied(list[Any]):
    """A list whose deep copy is itself: MLflow's copy of it would take most of a large request's time."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Uncopied":
        return self


async def read_body(request: Request, largest: int, seconds: float, advice: str) -> bytes:
    """Return a request's body.

    A body that is too large is read to its end and dropped, because a client that still sends does not read an answer.

    Args:
        request: The request.
        largest: The largest size allowed, in bytes.
        seconds: The time in which the body must arrive.
        advice: What to do about a body that is too large; ends the message.

    Raises:
        HTTPException: The body is too large (413) or too late (408), or the client has disconnected (400).
    """
    too_large = HTTPException(413, f"the body is larger than {largest:,} bytes; {advice}")
    if "expect" in request.headers and int(request.headers.get("content-length", "0")) > largest:
        raise too_large
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
        raise too_large
    return bytes(body)


def http_error(status: int, message: str, code: str = "BAD_REQUEST") -> JSONResponse:
    """Return an error in the form of MLflow's server: {"error_code": code, "message": message}."""
    # After 408 and 413 the rest of the body may still be on its way.
    headers = {"connection": "close"} if status in (408, 413) else None
    return JSONResponse({"error_code": code, "message": message}, status, headers)


async def _error_response(_: Request, error: HTTPException) -> JSONResponse:
    return http_error(error.status_code, error.detail)


# For Starlette's `exception_handlers`.
ERROR_HANDLERS: dict[Any, Any] = {HTTPException: _error_response}


async def _not_found(request: Request, _: HTTPException) -> JSONResponse:
    return http_error(404, f"there is no {request.scope['path'][:100]}; ask /invocations, /ping or /version")


async def _not_allowed(request: Request, error: HTTPException) -> JSONResponse:
    allowed = (error.headers or {})["Allow"]
    return http_error(405, f"{request.scope['path']} takes {allowed}, not {request.method[:20]}")


def _content_type(headers: Headers) -> str:
    given = headers.get("content-type", "none")
    kind, *parameters = (part.strip() for part in given.lower().split(";"))
    wrong = [part for part in parameters if part.replace('"', "") != "charset=utf-8"]
    if kind not in (JSON, CSV) or wrong:
        raise HTTPException(415, f"the content type is {given[:100]}; it may be {JSON} or {CSV}, in UTF-8")
    encoding = headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise HTTPException(415, f"the content encoding is {encoding[:50]}; send the content unencoded")
    return kind


def _is_deeper(body: bytes, depth: int) -> bool:
    """Return whether JSON's brackets are nested deeper than `depth`, at the speed of C; for broken JSON either."""
    brackets = _STRINGS.sub(b"", body).translate(_ONE_KIND, _NOT_BRACKETS)
    for _ in range(depth):
        brackets = brackets.replace(b"[]", b"")
    return b"[]" in brackets or len(brackets) > depth


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is no number in JSON")


def _item_count(form: str, given: Any) -> int:
    """Return the number of images or rows in a request, as far as it shows before the model checks them."""
    if form == "dataframe_split" and isinstance(given, dict):
        given = given.get("data")
    if isinstance(given, dict):
        return max((len(column) for column in given.values() if isinstance(column, list)), default=1)
    return len(given) if isinstance(given, list) else 1


def _described(given: Any) -> str:
    if not isinstance(given, dict):
        return f"the body is {type(given).__name__}, not a JSON object"
    return f"the body's keys are {', '.join(repr(key)[:40] for key in list(given)[:6])}" if given else "an empty object"
