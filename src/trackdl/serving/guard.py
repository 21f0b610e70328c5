"""The application in front of a model's server: it passes on well-formed requests and answers all others with 4xx.

MLflow's server reads a whole body, whatever its size, and answers what breaks its parser with 500. Here a request's
size, type, nesting and number of items are checked first. What costs more than a moment is answered in another process,
one request after the other, so that it delays nobody else. Knows Starlette, nothing of MLflow.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trackdl.errors import one_line
from trackdl.serving.door import ERROR_HANDLERS, Door, busy, http_error, read_body

if TYPE_CHECKING:
    from trackdl.serving.server import ModelScorer

JSON, CSV = "application/json", "text/csv"
FORMS = ("inputs", "instances", "dataframe_split", "dataframe_records")
# It matches at every quote, an unterminated string's too, and never backtracks: a scan takes linear time.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_EXPECTED = f"expected a JSON object with one of the keys {', '.join(FORMS)}"
_PATHS = ("/invocations", "/ping", "/health", "/ready", "/version", "/metrics")


@dataclass(frozen=True)
class Limits:
    """The limits of a request.

    Attributes:
        body: Size in bytes.
        items: Number of images or rows.
        columns: Number of a table's columns; of an image's rows.
        depth: Levels of nested lists and objects.
        lists: Number of lists and objects: in Python each takes 60 bytes or more.
        upload: Seconds in which the body must arrive.
        answer: Seconds in which the request must be answered.
        at_once: Cheap requests that are answered at the same time; others wait.
        cheap: Size in bytes up to which a body is read in this process; it may still turn out to be costly.
        waiting: Costly requests that may wait for their turn.
        held: Bytes of all larger bodies that are held at the same time.
    """

    body: int = 10 * 2**20
    items: int = 1024
    columns: int = 1024
    depth: int = 16
    lists: int = 1_000_000
    upload: float = 30
    answer: float = 60
    at_once: int = 4
    cheap: int = 2**16
    waiting: int = 8
    held: int = 2**27


class Guard(Starlette):
    """An application that checks the requests to `/invocations`, and says how its model is.

    Args:
        scorer: Answers requests.
        hosts: The names by which the server may be asked, besides localhost and IP addresses; `*` means any.
        champion: Returns the version that is champion now, or None.
    """

    def __init__(
        self,
        scorer: "ModelScorer",
        hosts: Collection[str] = (),
        champion: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.scorer, self.limits, self.champion = scorer, scorer.limits, champion
        # Not anyio's threads: a request that times out would free its place while its thread still runs.
        self._threads = ThreadPoolExecutor(self.limits.at_once, thread_name_prefix="answer")
        self._costly = ThreadPoolExecutor(1, thread_name_prefix="costly")
        self._waiting = self._held = 0
        self._started = False
        self._metrics = _Metrics(scorer)
        super().__init__(
            routes=[
                Route("/ping", _alive),
                Route("/health", _alive),
                Route("/ready", self._ready),
                Route("/version", self._version),
                Route("/metrics", self._measured),
                Route("/invocations", self._invocations, methods=["POST"]),
            ],
            middleware=[
                Middleware(_Watched, metrics=self._metrics, seconds=self.limits.upload + 2 * self.limits.answer),
                Middleware(Door, hosts=hosts),
            ],
            exception_handlers=ERROR_HANDLERS | {404: _not_found, 405: _not_allowed},
            lifespan=self._living,
        )
        self.router.redirect_slashes = False

    def replace(self, scorer: "ModelScorer") -> None:
        """Answer by another version from now on; what was begun is answered by the one before."""
        before, self.scorer = self.scorer, scorer
        self._metrics.name(scorer)
        self._costly.submit(before.close)  # in turn, after the requests that wait for it

    @asynccontextmanager
    async def _living(self, _: Starlette) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        starting = loop.run_in_executor(self._costly, self.scorer.start)
        starting.add_done_callback(self._set_started)
        yield
        self._costly.shutdown(wait=False, cancel_futures=True)
        self.scorer.close()

    def _set_started(self, done: "asyncio.Future[None]") -> None:
        self._started = not done.cancelled() and done.exception() is None

    async def _ready(self, _: Request) -> Response:
        if not self._started:
            raise busy("the process for costly requests is still loading the model")
        if self._waiting >= self.limits.waiting:
            raise busy("too many costly requests are waiting")
        return PlainTextResponse("\n")

    async def _version(self, _: Request) -> Response:
        champion = await asyncio.get_running_loop().run_in_executor(self._threads, self.champion)
        return JSONResponse({"model": self.scorer.name, "version": self.scorer.version, "champion": champion})

    async def _measured(self, _: Request) -> Response:
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def _invocations(self, request: Request) -> Response:
        kind = _content_type(request.headers)
        size = min(int(request.headers.get("content-length", self.limits.body)), self.limits.body)
        size = size if size > self.limits.cheap else 0
        full = busy("too many large requests are on their way") if self._held + size > self.limits.held else None
        self._held += 0 if full else size
        try:
            advice = "send fewer or smaller items at a time"
            body = await read_body(request, self.limits.body, self.limits.upload, advice, full)
            async with asyncio.timeout(self.limits.answer):
                return await self._answer(body, kind)
        except TimeoutError:
            return http_error(503, "the request took too long")
        finally:
            self._held -= 0 if full else size

    async def _answer(self, body: bytes, kind: str) -> Response:
        loop = asyncio.get_running_loop()
        if len(body) <= self.limits.cheap:
            cheap = await loop.run_in_executor(self._threads, self._cheap, body, kind)
            if cheap is not None:
                return cheap
        if self._waiting >= self.limits.waiting:
            raise busy("too many costly requests are waiting")
        self._waiting += 1
        try:
            return await loop.run_in_executor(self._costly, lambda: self.scorer.answer_costly(body, kind))
        finally:
            self._waiting -= 1

    def _cheap(self, body: bytes, kind: str) -> Response | None:
        return self.scorer.answer(parse(body, kind, self.limits), kind)


class _Metrics:
    """A server's metrics, in Prometheus's terms."""

    def __init__(self, scorer: "ModelScorer") -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("trackdl_requests", "Requests.", ["path", "status"], registry=self.registry)
        self.refusals = Counter("trackdl_refusals", "Requests that were refused.", ["status"], registry=self.registry)
        self.seconds = Histogram("trackdl_request_seconds", "Time to an answer.", ["path"], registry=self.registry)
        self.model = Gauge("trackdl_model", "The model that answers.", ["model", "version"], registry=self.registry)
        ProcessCollector(registry=self.registry)
        self.name(scorer)

    def name(self, scorer: "ModelScorer") -> None:
        self.model.clear()
        self.model.labels(scorer.name, scorer.version).set(1)


class _Watched:
    """Middleware that counts requests, and gives up those whose clients do not take their answers."""

    def __init__(self, app: ASGIApp, metrics: _Metrics, seconds: float) -> None:
        self.app, self.metrics, self.seconds = app, metrics, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        path = scope["path"] if scope["path"] in _PATHS else "other"
        try:
            async with asyncio.timeout(self.seconds):
                await self.app(scope, receive, noting)
        except TimeoutError:
            pass  # the server closes the connection of an answer that is not complete
        finally:
            self.metrics.requests.labels(path, status).inc()
            if status >= 400:
                self.metrics.refusals.labels(status).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - began)


def parse(body: bytes, kind: str, limits: Limits) -> Any:
    """Return a request's JSON object, or its CSV text.

    Raises:
        HTTPException: It is neither, or exceeds a limit.
    """
    if not body.strip():
        raise HTTPException(400, f"the body is empty; {_EXPECTED}")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise HTTPException(400, f"the body is not UTF-8 text (byte {error.start})") from None
    if kind == CSV:
        lines = text.splitlines()
        _check(len(lines) - 1, "items", limits.items)
        most = max(line.count(separator) for line in lines for separator in ",;\t")
        _check(most + 1, "columns", limits.columns)
        return text
    _check_brackets(body, limits)
    try:
        given = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON: {one_line(error)}") from None
    if not isinstance(given, dict) or len(given) != 1 or (form := next(iter(given))) not in FORMS:
        raise HTTPException(400, f"{_described(given)}; {_EXPECTED}")
    _check(_item_count(form, given[form]), "items", limits.items)
    _check(_column_count(form, given[form]), "columns", limits.columns)
    return {form: _Uncopied(given[form])} if isinstance(given[form], list) else given


def _check(found: int, what: str, most: int) -> None:
    if found > most:
        raise HTTPException(413, f"{found:,} {what} in one request; at most {most:,} are allowed")


class _Uncopied(list[Any]):
    """A list whose deep copy is itself: MLflow's copy of it would take most of a large request's time."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Uncopied":
        return self


async def _alive(_: Request) -> Response:
    return PlainTextResponse("\n")


async def _not_found(request: Request, _: HTTPException) -> JSONResponse:
    return http_error(404, f"there is no {request.scope['path'][:100]}; ask /invocations, /ping or /version")


async def _not_allowed(request: Request, error: HTTPException) -> JSONResponse:
    allowed = ", ".join(sorted((error.headers or {})["Allow"].split(", ")))
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


def _check_brackets(body: bytes, limits: Limits) -> None:
    """Refuse JSON whose lists and objects are nested too deep, or too many, at the speed of C."""
    brackets = _STRINGS.sub(b"", body).translate(_ONE_KIND, _NOT_BRACKETS)
    _check(len(brackets) // 2, "lists and objects", limits.lists)
    for _ in range(limits.depth):
        brackets = brackets.replace(b"[]", b"")
    if b"[]" in brackets or len(brackets) > limits.depth:  # broken JSON may have either
        raise HTTPException(400, f"lists and objects are nested deeper than {limits.depth}; {_EXPECTED}")


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is no number in JSON")


def _item_count(form: str, given: Any) -> int:
    """Return the number of images or rows in a request, as far as it shows before the model checks them."""
    if form == "dataframe_split" and isinstance(given, dict):
        given = given.get("data")
    if isinstance(given, dict):
        return max((len(column) for column in given.values() if isinstance(column, list)), default=1)
    return len(given) if isinstance(given, list) else 1


def _column_count(form: str, given: Any) -> int:
    """Return the number of columns in a request, or of an image's rows: MLflow's parser is slow where it is large."""
    columns: Any = ()
    if isinstance(given, dict) and form == "dataframe_split":
        columns, given = given.get("columns"), given.get("data")
    rows = given if isinstance(given, list) else [given]
    names = set().union(*(row for row in rows if isinstance(row, dict)))
    return max(len(names), *(len(row) for row in [columns, *rows] if isinstance(row, list)), 0, 0)


def _described(given: Any) -> str:
    if not isinstance(given, dict):
        return f"the body is {type(given).__name__}, not a JSON object"
    return f"the body's keys are {', '.join(repr(key)[:40] for key in list(given)[:6])}" if given else "an empty object"
