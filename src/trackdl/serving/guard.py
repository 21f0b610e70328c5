"""What stands before a model's server: it lets through what a model can be asked, and answers the rest with 4xx.

MLflow's server reads whatever it is sent, whole, and answers what breaks its parser with 500. Here a request's size,
type, nesting and number of items are bounded first. Knows ASGI, nothing of MLflow.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

__all__ = ["CSV", "JSON", "Answer", "Guard", "Limits", "Refused"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

JSON, CSV = "application/json", "text/csv"
FORMS = ("inputs", "instances", "dataframe_split", "dataframe_records")
_PLAIN = ("/ping", "/health", "/version")
# It matches at every quote, an unterminated string's too, and never gives back what it took: a scan takes linear time.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")


@dataclass(frozen=True)
class Limits:
    """What a request may be.

    Attributes:
        body: Bytes.
        items: Pictures or rows.
        depth: Lists and objects in one another.
        upload: Seconds until its body has come.
        answer: Seconds until it is answered.
        at_once: How many are worked at side by side; the others wait. Each may hold a large picture in memory.
    """

    body: int = 10 * 2**20
    items: int = 1024
    depth: int = 16
    upload: float = 30
    answer: float = 60
    at_once: int = 4


class Refused(Exception):  # noqa: N818 - it is an answer, not an accident
    """A request is not let through: the status, and what is wrong with it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Answer(NamedTuple):
    """A response: its status, its body and its type."""

    status: int
    body: str
    kind: str = JSON


class Guard:
    """An ASGI application that checks what is sent to `/invocations`.

    Args:
        answer: Answers a request; gets the parsed JSON object or the CSV text, and the content type; run in a thread.
        app: Answers `/ping`, `/health` and `/version`, and the server's own events.
        limits: What a request may be.
    """

    def __init__(self, answer: Callable[[Any, str], Answer], app: App, limits: Limits | None = None) -> None:
        self.answer, self.app, self.limits = answer, app, limits or Limits()
        self._threads = ThreadPoolExecutor(self.limits.at_once, thread_name_prefix="answer")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or (scope["path"] in _PLAIN and scope["method"] == "GET"):
            await self.app(scope, receive, send)
            return
        try:
            given = await self._answer(scope, receive)
        except Refused as refused:
            said = {"error_code": "BAD_REQUEST", "message": refused.message}
            given = Answer(refused.status, json.dumps(said))
        except ConnectionAbortedError:
            return  # who asked is gone
        await _send(send, given)

    async def _answer(self, scope: Message, receive: Receive) -> Answer:
        if scope["path"] != "/invocations":
            raise Refused(404, f"there is no {scope['path'][:100]}; ask /invocations, /ping or /version")
        if scope["method"] != "POST":
            raise Refused(405, f"/invocations is asked by POST, not {scope['method'][:20]}")
        headers = dict(scope["headers"])
        kind = _content_type(headers)
        body = await self._body(headers, receive)
        work = partial(self._work, body, kind)
        try:
            async with asyncio.timeout(self.limits.answer):
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except TimeoutError:
            return Answer(503, json.dumps({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "it took too long"}))

    def _work(self, body: bytes, kind: str) -> Answer:
        return self.answer(self._parse(body, kind), kind)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """Read a body. What is too large is read to its end and dropped: who still sends does not hear an answer."""
        largest = self.limits.body
        too_large = Refused(413, f"the body is larger than {largest:,} bytes; send fewer or smaller items at a time")
        if headers.get(b"expect") and int(headers.get(b"content-length", b"0")) > largest:
            raise too_large
        body = bytearray()
        size = 0
        try:
            async with asyncio.timeout(self.limits.upload):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionAbortedError
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size > largest:
                        body.clear()
                    else:
                        body += chunk
                    more = message.get("more_body", False)
        except TimeoutError:
            raise Refused(408, f"the body had not come after {self.limits.upload:g} seconds") from None
        if size > largest:
            raise too_large
        return bytes(body)

    def _parse(self, body: bytes, kind: str) -> Any:
        if not body.strip():
            raise Refused(400, f"the body is empty; {_wanted()}")
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Refused(400, f"the body is not UTF-8 text (byte {error.start})") from None
        if kind == CSV:
            self._count(len(text.splitlines()) - 1)
            return text
        if _deeper(body, self.limits.depth):
            raise Refused(400, f"lists and objects in one another deeper than {self.limits.depth}; {_wanted()}")
        try:
            given = json.loads(text, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"the body is not JSON: {' '.join(str(error).split())[:200]}") from None
        if not isinstance(given, dict) or len(given) != 1 or (form := next(iter(given))) not in FORMS:
            raise Refused(400, f"{_found(given)}: {_wanted()}")
        self._count(_items(form, given[form]))
        return {form: _Once(given[form])} if isinstance(given[form], list) else given

    def _count(self, items: int) -> None:
        if items > self.limits.items:
            raise Refused(413, f"{items:,} items in one request; at most {self.limits.items:,} are answered at a time")


class _Once(list[Any]):
    """A list that nobody else holds, so that MLflow's deep copy of it, most of a large request's time, is itself."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Once":
        return self


def _content_type(headers: dict[bytes, bytes]) -> str:
    given = headers.get(b"content-type", b"none").decode("latin-1")
    kind, *parameters = (part.strip() for part in given.lower().split(";"))
    wrong = [part for part in parameters if part.replace('"', "") != "charset=utf-8"]
    if kind not in (JSON, CSV) or wrong:
        raise Refused(415, f"the content type is {given[:100]}; it may be {JSON} or {CSV}, in UTF-8")
    coding = headers.get(b"content-encoding", b"identity").decode("latin-1")
    if coding != "identity":
        raise Refused(415, f"the content is coded as {coding[:50]}; send it as it is")
    return kind


def _deeper(body: bytes, depth: int) -> bool:
    """Return whether brackets stand in one another deeper than that, at the speed of C; broken JSON may be either."""
    brackets = _STRINGS.sub(b"", body).translate(_ONE_KIND, _NOT_BRACKETS)
    for _ in range(depth):
        brackets = brackets.replace(b"[]", b"")
    return b"[]" in brackets or len(brackets) > depth


def _no_number(constant: str) -> Any:
    raise ValueError(f"{constant} is no number in JSON")


def _items(form: str, given: Any) -> int:
    """Return how many pictures or rows a request holds, as far as that can be told before it is looked at."""
    if form == "dataframe_split" and isinstance(given, dict):
        given = given.get("data")
    if isinstance(given, dict):
        return max((len(column) for column in given.values() if isinstance(column, list)), default=1)
    return len(given) if isinstance(given, list) else 1


def _found(given: Any) -> str:
    if not isinstance(given, dict):
        return f"the body is {type(given).__name__}, not a JSON object"
    return f"the body's keys are {', '.join(repr(key)[:40] for key in list(given)[:6])}" if given else "an empty object"


def _wanted() -> str:
    return f"expected a JSON object with one of the keys {', '.join(FORMS)}"


async def _send(send: Send, given: Answer) -> None:
    body = given.body.encode()
    headers = [(b"content-type", given.kind.encode()), (b"content-length", str(len(body)).encode())]
    if given.status in (408, 413):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": given.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
