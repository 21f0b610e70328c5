"""The server of `trackdl serve`: what it answers, what it refuses and how, and that it answers again afterwards."""

import asyncio
import gzip
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.responses import JSONResponse

from support.served import ROW, add_colour, add_heart, add_pictures, ask, b64, colour_model, content, letter
from trackdl.errors import TrackdlError
from trackdl.serving import guard
from trackdl.serving.guard import Guard, Limits
from trackdl.serving.server import ModelScorer
from trackdl.tracking import store
from trackdl.tracking.registry import files as artifacts

BLANK = [[0] * 28] * 28
PICTURE = b64(content(letter()))


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Guard]]:
    """Register a model of each kind in a store of the module's own, and build their servers."""
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.setattr(store, "project_root", lambda: folder)
        store.client.cache_clear()
        add_pictures("greek-cnn")
        add_heart()
        add_colour()
        with ExitStack() as stack:
            made = {}
            for name in ("greek-cnn", "heart-mlp", "flags"):
                files = stack.enter_context(artifacts.verified(artifacts.find(f"models:/{name}@champion")))
                scorer = ModelScorer(files, name, "1", Limits(body=200_000, lists=50_000))
                stack.callback(scorer.close)
                made[name] = Guard(scorer)
            store.client.cache_clear()
            yield made


@pytest.fixture
def greek(apps: dict[str, Guard]) -> Guard:
    return apps["greek-cnn"]


@pytest.fixture
def heart(apps: dict[str, Guard]) -> Guard:
    return apps["heart-mlp"]


@pytest.mark.slow
def test_a_model_of_its_own_size_and_colour_is_registered_and_served(apps: dict[str, Guard]) -> None:
    pixels = [[[200, 10, 30]] * 12] * 12
    file = b64(content(Image.new("RGB", (12, 12), (200, 10, 30))))
    for asked in ({"inputs": pixels}, {"instances": [pixels]}, {"inputs": file}, {"dataframe_records": [{"x": file}]}):
        status, answer = ask(apps["flags"], asked)
        assert status == 200, answer
        (said,) = answer["predictions"]
        assert said == colour_model().records(np.array(pixels))[0] | {"model": "flags", "version": "1"}
    status, answer = ask(apps["flags"], {"inputs": BLANK})
    assert (status, "expected [n, 12, 12, 3] or [12, 12, 3]" in answer["message"]) == (400, True)


def records(**change: Any) -> dict[str, Any]:
    return {"dataframe_records": [ROW | change]}


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({"inputs": BLANK}, 1),
        ({"inputs": [BLANK, BLANK]}, 2),
        ({"instances": [BLANK, BLANK]}, 2),
        ({"inputs": PICTURE}, 1),
        ({"inputs": [PICTURE, PICTURE]}, 2),
        ({"instances": [PICTURE]}, 1),
        ({"dataframe_split": {"columns": ["image"], "data": [[PICTURE], [PICTURE]]}}, 2),
        ({"dataframe_split": {"columns": ["image"], "index": [7], "data": [[PICTURE]]}}, 1),
        ({"dataframe_records": [{"image": PICTURE}]}, 1),
    ],
)
def test_pictures_in_every_form(greek: Guard, asked: dict[str, Any], count: int) -> None:
    status, answer = ask(greek, asked)
    assert status == 200, answer
    assert len(answer["predictions"]) == count
    for said in answer["predictions"]:
        assert set(said) == {"label", "probabilities", "model", "version"}
        assert said["label"] == max(said["probabilities"], key=said["probabilities"].get)
        assert list(said["probabilities"]) == ["alpha", "beta", "gamma"]
        assert (said["model"], said["version"]) == ("greek-cnn", "1")


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        (records(), "application/json"),
        ({"dataframe_split": {"columns": list(ROW), "data": [list(ROW.values())]}}, "application/json"),
        ({"instances": [ROW]}, "application/json; charset=UTF-8"),
        ({"inputs": [ROW]}, "application/json"),
        ({"inputs": ROW}, "application/json"),
        ({"inputs": {key: [value] for key, value in ROW.items()}}, "application/json"),
        (f"{','.join(ROW)}\n{','.join(map(str, ROW.values()))}\n", "text/csv"),
    ],
)
def test_rows_in_every_form(heart: Guard, asked: Any, kind: str) -> None:
    expected = ask(heart, records())[1]["predictions"]
    status, answer = ask(heart, asked, kind)
    assert (status, answer) == (200, {"predictions": expected})


def pixel(value: str) -> str:
    return json.dumps({"inputs": BLANK}).replace("0", value, 1)


J, TEXT = "application/json", "text/csv"
BAD_PICTURES: dict[str, tuple[Any, str | None, int, str]] = {
    "empty body": ("", J, 400, "the body is empty"),
    "no content type": ({"inputs": BLANK}, None, 415, "content type is none"),
    "wrong content type": ({"inputs": BLANK}, "text/html", 415, "text/html"),
    "parquet": (b"PAR1", "application/vnd.apache.parquet", 415, "may be application/json"),
    "other charset": ({"inputs": BLANK}, "application/json; charset=latin-1", 415, "UTF-8"),
    "no JSON": ("{nonsense", J, 400, "not JSON"),
    "not UTF-8": (b'{"inputs": "\xff"}', J, 400, "not UTF-8"),
    "compressed": (gzip.compress(b"{}"), J, 400, "not UTF-8"),
    "a list": (json.dumps(BLANK), J, 400, "not a JSON object"),
    "an empty object": ({}, J, 400, "an empty object"),
    "an unknown key": ({"pictures": BLANK}, J, 400, "'pictures'"),
    "two keys": ({"inputs": BLANK, "instances": BLANK}, J, 400, "'inputs', 'instances'"),
    "a key beside": ({"inputs": BLANK, "params": {}}, J, 400, "'params'"),
    "a chat": ({"messages": [{"role": "user", "content": "x"}]}, J, 400, "'messages'"),
    "nothing": ({"inputs": []}, J, 400, "input of type"),
    "null": ({"inputs": None}, J, 400, "un-named"),
    "texts as pixels": ({"inputs": [["0"] * 28] * 28}, J, 400, "texts of shape"),
    "wrong shape": ({"inputs": [[0] * 28] * 27}, J, 400, "shape [27, 28]"),
    "ragged": ({"inputs": [[0] * 28] * 27 + [[0] * 27]}, J, 400, "unequal length"),
    "NaN": (pixel("NaN"), J, 400, "NaN is no number"),
    "Infinity": (pixel("Infinity"), J, 400, "Infinity is no number"),
    "-Infinity": (pixel("-Infinity"), J, 400, "-Infinity is no number"),
    "1e400": (pixel("1e400"), J, 400, "is inf"),
    "10**400": (pixel("1" + "0" * 400), J, 400, "far beyond"),
    "10**5000": (pixel("1" + "0" * 5000), J, 400, "not JSON"),
    "nested 10,000 deep": ('{"inputs": ' + "[" * 10_000 + "]" * 10_000 + "}", J, 400, "deeper than 16"),
    "objects 10,000 deep": ('{"inputs": ' + '{"a":' * 10_000 + "1" + "}" * 10_001, J, 400, "deeper than 16"),
    "too many lists": ('{"inputs": [' + "[]," * 50_000, J, 413, "50,001 lists and objects"),
    "brackets without end": ("[" * 10_000, J, 400, "deeper than 16"),
    "too large": (" " * 200_001, J, 413, "larger than 200,000 bytes"),
    "too many": ({"inputs": [0] * 1025}, J, 413, "1,025 items"),
    "too many rows": ({"dataframe_split": {"columns": ["image"], "data": [["x"]] * 1025}}, J, 413, "1,025 items"),
    "too many in columns": ({"inputs": {"image": ["x"] * 1025}}, J, 413, "1,025 items"),
    "too many columns": ({"inputs": [[0] * 1025]}, J, 413, "1,025 columns"),
    "too many keys": ({"inputs": {str(key): 1 for key in range(1025)}}, J, 413, "1,025 columns"),
    "keys of their own": (
        {"dataframe_records": [{f"{row}_{key}": 1 for key in range(103)} for row in range(10)]},
        J,
        413,
        "1,030 columns",
    ),
    "too many names": ({"dataframe_split": {"columns": ["x"] * 1025, "data": []}}, J, 413, "1,025 columns"),
    "too many cells": ({"dataframe_split": {"columns": ["x"], "data": [["x"] * 1025]}}, J, 413, "1,025 columns"),
    "too many commas": ("image\n" + "," * 1024, TEXT, 413, "1,025 columns"),
    "too many lines": ("image\n" + "x\n" * 1025, TEXT, 413, "1,025 items"),
    "a truncated JPEG": (
        {"inputs": [b64(content(letter(), "JPEG")[:-400])]},
        J,
        400,
        "cut short",
    ),
    "an SVG": ({"inputs": [b64(b"<svg xmlns='http://www.w3.org/2000/svg'/>")]}, J, 400, "not an image"),
    "a PDF": ({"inputs": [b64(b"%PDF-1.4")]}, J, 400, "not an image"),
    "no base64": ({"inputs": ["no base64!"]}, J, 400, "not base64"),
    "two columns": ({"dataframe_split": {"columns": ["a", "b"], "data": [["x", "y"]]}}, J, 400, "unnamed input"),
    "no data": ({"dataframe_split": {"columns": ["a"]}}, J, 400, "must have 'data' field"),
    "split a text": ({"dataframe_split": "x"}, J, 400, "must be a dictionary"),
    "records a text": ({"dataframe_records": "x"}, J, 400, "list of records"),
    "CSV of numbers": ("a,b\n1,2\n", TEXT, 400, "unnamed input"),
}
BAD_ROWS: dict[str, tuple[Any, str | None, int, str]] = {
    "an unknown category": (records(Sex="X"), J, 400, "row 1, column Sex: is 'X'; it may be one of F, M"),
    "a missing column": ({"dataframe_records": [{"Age": 54}]}, J, 400, "missing inputs"),
    "an extra column": (records(Weight=80), J, 400, "unknown column 'Weight'"),
    "an extra column in CSV": (f"{','.join(ROW)},W\n{','.join(map(str, ROW.values()))},1\n", TEXT, 400, "'W'"),
    "null": (records(Sex=None), J, 400, "column Sex: is missing"),
    "text for a number": (records(Age="old"), J, 400, "column Age: is 'old'"),
    "half a year": (records(Age=54.5), J, 400, "column Age: is 54.5"),
    "true for a number": (records(Age=True), J, 400, "column Age: is True"),
    "a list for a number": (records(Age=[54]), J, 400, "column Age: is [54]"),
    "a number for a category": (records(Sex=1), J, 400, "column Sex: is 1"),
    "out of range": (records(Age=300), J, 400, "column Age: is 300"),
    "10**400": (json.dumps(records()).replace("54", "1" + "0" * 400), J, 400, "column Age: is 1000"),
    "1e400": (json.dumps(records()).replace("1.2", "1e400"), J, 400, "column Oldpeak: is inf"),
    "a lone surrogate": (json.dumps(records(Sex="\ud800")), J, 400, "surrogates"),
    "no rows": ({"dataframe_records": []}, J, 400, "missing inputs"),
    "rows without names": ({"inputs": [list(ROW.values())]}, J, 400, "missing inputs"),
    "columns of unequal length": ({"inputs": {k: [v] * (1 + (k == "Age")) for k, v in ROW.items()}}, J, 400, "length"),
    "ragged CSV": ("Age,Sex\n1,2,3\n", TEXT, 400, ""),
}


def refused(app: Guard, case: tuple[Any, str | None, int, str], good: dict[str, Any]) -> None:
    body, kind, expected, words = case
    status, answer = ask(app, body, kind)
    assert (status, set(answer)) == (expected, {"error_code", "message"})
    assert words in answer["message"]
    assert len(answer["message"]) <= 2000
    assert "Traceback" not in json.dumps(answer)
    assert ask(app, good)[0] == 200


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_bad_pictures_get_4xx_and_then_a_good_one_is_answered(greek: Guard, case: str) -> None:
    refused(greek, BAD_PICTURES[case], {"inputs": BLANK})


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows_get_4xx_and_then_a_good_one_is_answered(heart: Guard, case: str) -> None:
    refused(heart, BAD_ROWS[case], records())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
CELLS = st.dictionaries(st.sampled_from([*ROW, "other"]), VALUES, max_size=12)
FORMS = st.sampled_from(["inputs", "instances", "dataframe_split", "dataframe_records"])
SPLIT = st.fixed_dictionaries({"columns": VALUES, "data": VALUES}, optional={"index": VALUES})
BODIES = st.builds(lambda form, value: {form: value}, FORMS, VALUES | CELLS | st.lists(CELLS, max_size=3) | SPLIT)


@given(BODIES | st.dictionaries(st.text(max_size=9), VALUES, max_size=3))
@settings(max_examples=150, deadline=None)
def test_no_json_makes_the_server_fail(apps: dict[str, Guard], body: dict[str, Any]) -> None:
    for app in apps.values():
        assert 400 <= ask(app, json.dumps(body))[0] < 500


@given(st.binary(max_size=200), st.sampled_from([J, TEXT, "x/y", "", "application/json;;=", "text/csv; charset=utf-8"]))
@settings(max_examples=150, deadline=None)
def test_no_bytes_make_the_server_fail(apps: dict[str, Guard], body: bytes, kind: str) -> None:
    for app in apps.values():
        assert 400 <= ask(app, body, kind)[0] < 500


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_row_with_any_cell_is_answered_only_when_it_is_one(apps: dict[str, Guard], data: st.DataObject) -> None:
    column, value = data.draw(st.sampled_from(list(ROW))), data.draw(VALUES)
    status = ask(apps["heart-mlp"], json.dumps(records(**{column: value})))[0]
    assert status in (200, 400)
    if status == 200:
        assert isinstance(value, int | float | str)
        assert not isinstance(value, bool) or column == "ExerciseAngina"


@pytest.mark.parametrize(("said", "value"), [(True, "Y"), (False, "N")])
def test_true_and_false_are_what_yes_and_no_mean_to_a_column(apps: dict[str, Guard], said: bool, value: str) -> None:
    answers = [ask(apps["heart-mlp"], json.dumps(records(ExerciseAngina=one))) for one in (said, value)]
    assert answers[0] == answers[1]
    assert answers[0][0] == 200
    assert ask(apps["heart-mlp"], json.dumps(records(FastingBS=said)))[0] == 400


def test_the_other_addresses(greek: Guard) -> None:
    for method in ("GET", "HEAD"):
        for path in ("/ping", "/health"):
            assert ask(greek, "", None, path, method) == (200, "\n")
        for path in ("/version", "/metrics"):
            assert ask(greek, "", None, path, method)[0] == 200
        assert ask(greek, "", None, "/invocations", method)[0] == 405
    for path in ("/", "/docs", "/openapi.json", "/invocations/", "/ping/../x"):
        assert ask(greek, "", None, path, "GET")[0] == 404


def test_a_refused_method_is_told_the_one_that_works(greek: Guard) -> None:
    for path in ("/ping", "/health", "/ready", "/version", "/metrics"):
        for method in ("POST", "PUT"):
            status, answer = ask(greek, "", None, path, method)
            assert (status, answer["message"]) == (405, f"{path} takes GET, HEAD, not {method}")


@dataclass
class Echo:
    """Answers with the form that it was asked in; whatever holds an "x" is costly."""

    limits: Limits
    version: str = "1"
    name: str = "echo"
    wait: Callable[[], Any] = bool
    costly: Callable[[], Any] = bool
    loading: Callable[[], Any] = bool
    closed: bool = False

    def start(self) -> None:
        self.loading()

    def answer(self, given_: Any, kind: str) -> JSONResponse | None:  # noqa: ARG002 - the signature of a scorer
        self.wait()
        return None if "x" in str(given_) else JSONResponse({"form": next(iter(given_)), "version": self.version})

    def answer_costly(self, body: bytes, kind: str) -> JSONResponse:
        guard.parse(body, kind, self.limits)
        self.costly()
        return JSONResponse({"costly": len(body), "version": self.version})

    def close(self) -> None:
        self.closed = True


def echo(**limits: Any) -> Guard:
    return Guard(Echo(Limits(**limits)))


def test_a_large_body_is_read_to_its_end_and_dropped() -> None:
    app = echo(body=1000)
    assert ask(app, b'{"inputs": 1}' + b" " * 987, chunk=7)[0] == 200
    assert ask(app, b" " * 5_000_000, chunk=100_000)[0] == 413
    # Whoever asks before sending is answered before.
    expecting = {"expect": "100-continue", "content-length": "5000000"}
    assert ask(app, b"", headers=expecting)[0] == 413


def test_coded_content_is_refused() -> None:
    assert ask(echo(), {"inputs": 1}, headers={"content-encoding": "gzip"})[0] == 415


def test_brackets_in_texts_are_no_nesting() -> None:
    app = echo(depth=3)
    assert ask(app, {"inputs": ['[[[[{{{"[[[\\', "]"]})[0] == 200
    assert ask(app, '{"inputs": [[1], {}]}')[0] == 200
    assert ask(app, '{"inputs": [[[1]]]}')[0] == 400


@given(st.lists(st.sampled_from([b'"', b"\\", b"[", b"]", b"a", b'\\"']), max_size=60).map(b"".join))
def test_no_scan_for_a_string_ever_fails_so_that_none_is_begun_again_within_it(body: bytes) -> None:
    """A scan that fails at one quote is repeated from the next one: an unterminated string then costs its square."""
    for place in [place for place, byte in enumerate(body) if byte == ord('"')]:
        assert guard._STRINGS.match(body, place)


@pytest.mark.parametrize("tail", [b'"', b'\\"', b"\\", b'[\\"', b""])
def test_a_body_that_ends_within_a_string_is_answered(tail: bytes) -> None:
    body = b'{"inputs":"' + tail * 1_000_000
    assert ask(echo(), body)[0] == 400


def test_who_sends_too_slowly_is_told_so() -> None:
    app = echo(upload=0.01)

    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": [(b"content-type", b"text/csv")]}
    asyncio.run(app(scope, never, send))
    assert sent[0]["status"] == 408


def test_a_client_that_disconnects_is_no_failure() -> None:
    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        assert message.get("status", 400) == 400

    scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": [(b"content-type", b"text/csv")]}
    asyncio.run(echo()(scope, gone, send))


def test_an_answer_that_takes_too_long_is_not_waited_for() -> None:
    done = threading.Event()

    app = Guard(Echo(Limits(answer=0.01), wait=lambda: done.wait(20)))
    sent: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"inputs": 1}'}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message.get("status", 0))
        done.set()

    scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": [(b"content-type", J.encode())]}
    asyncio.run(app(scope, receive, send))
    assert sent[0] == 503


def test_costly_requests_are_answered_by_another_process_which_may_die(greek: Guard) -> None:
    status, answer = ask(greek, {"inputs": [PICTURE] * 20})
    assert (status, len(answer["predictions"])) == (200, 20)
    (alone,) = ask(greek, {"inputs": PICTURE})[1]["predictions"]
    # The sums of a batch and of a single image may be added up in another order.
    assert answer["predictions"][0] == alone | {"probabilities": pytest.approx(alone["probabilities"])}
    worker = psutil.Process(greek.scorer._process.submit(os.getpid).result())
    assert worker.pid != os.getpid()
    worker.kill()
    worker.wait()
    # The death may be noticed only by the next request, which is then told so.
    assert ask(greek, {"inputs": [PICTURE] * 20})[0] in (200, 503)
    assert ask(greek, {"inputs": [PICTURE] * 20}) == (200, answer)
    status, answer = ask(greek, {"inputs": [PICTURE] * 80})
    assert status == 413
    assert re.fullmatch(r"80 image files that take about 3\.\d s .* Send fewer at a time\.", answer["message"])


def test_a_costly_request_is_put_off_if_its_process_cannot_start(greek: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise TrackdlError("a worker process was killed")

    monkeypatch.setattr(greek.scorer._process, "submit", refuse)
    status, answer = ask(greek, {"inputs": [PICTURE] * 20})
    assert status == 503
    assert "cannot be started" in answer["message"]


async def together(app: Guard, *bodies: Any) -> list[tuple[int, Any, Any]]:
    """Send requests at the same time; return their statuses, answers and headers, in the order of the answers."""
    answered = []

    async def one(body: str) -> None:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body.encode()}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        headers = [(b"content-type", J.encode()), (b"content-length", str(len(body)).encode())]
        path = "/ready" if body == "ready" else "/invocations"
        method = "GET" if body == "ready" else "POST"
        scope = {"type": "http", "method": method, "path": path, "headers": headers}
        await app(scope, receive, send)
        answered.append((sent[0]["status"], sent[1]["body"], dict(sent[0]["headers"])))

    tasks = []
    for body in bodies:
        tasks.append(asyncio.create_task(one(body)))
        await asyncio.sleep(0.05)
    await asyncio.gather(*tasks)
    return answered


CHEAP, COSTLY = '{"inputs": 1}', '{"inputs": "x"}'


def test_a_cheap_request_passes_costly_ones_and_too_many_of_those_are_refused() -> None:
    done = threading.Event()
    app = Guard(Echo(Limits(waiting=2), costly=lambda: done.wait(20)))
    threading.Timer(1, done.set).start()
    answers = asyncio.run(together(app, COSTLY, COSTLY, COSTLY, "ready", CHEAP))
    assert [status for status, _, _ in answers] == [503, 503, 200, 200, 200]
    assert b"too many costly requests" in answers[0][1]
    assert answers[0][2][b"retry-after"] == b"2"
    assert json.loads(answers[2][1])["form"] == "inputs"
    assert json.loads(answers[3][1])["costly"]


def test_the_bodies_that_are_held_at_once_have_a_limit() -> None:
    done = threading.Event()
    app = Guard(Echo(Limits(cheap=100, held=1000), costly=lambda: done.wait(20)))
    large = CHEAP + " " * 500
    threading.Timer(1, done.set).start()
    answers = asyncio.run(together(app, large, large, CHEAP))
    assert sorted(status for status, _, _ in answers) == [200, 200, 503]
    assert b"too many large requests" in answers[0][1]
    assert asyncio.run(together(app, large))[0][0] == 200


def test_ready_is_said_only_after_the_model_is_loaded() -> None:
    loaded = threading.Event()
    scorer = Echo(Limits(), loading=lambda: loaded.wait(20))
    app = Guard(scorer)

    async def live() -> list[int]:
        async with app.router.lifespan_context(app):
            statuses = [(await together(app, "ready"))[0][0]]
            loaded.set()
            await asyncio.sleep(0.1)
            return [*statuses, (await together(app, "ready"))[0][0]]

    assert asyncio.run(live()) == [503, 200]
    assert scorer.closed


def test_another_version_takes_over_and_no_request_is_lost() -> None:
    before, after = Echo(Limits(), wait=lambda: time.sleep(0.3)), Echo(Limits(), "2")
    app = Guard(before, champion=lambda: "2")
    assert ask(app, "", None, "/version", "GET") == (200, {"model": "echo", "version": "1", "champion": "2"})

    async def swap() -> list[Any]:
        asking = asyncio.create_task(together(app, CHEAP, COSTLY))
        await asyncio.sleep(0.2)
        app.replace(after)
        return [(status, json.loads(body)["version"]) for status, body, _ in await asking]

    assert asyncio.run(swap()) == [(200, "1"), (200, "2")]
    app._costly.shutdown()
    assert (before.closed, after.closed) == (True, False)
    assert ask(app, "", None, "/version", "GET")[1]["version"] == "2"


def test_metrics_count_requests_refusals_and_the_model() -> None:
    app = echo()
    ask(app, CHEAP)
    ask(app, CHEAP)
    ask(app, "[")
    ask(app, "", None, "/" + "x" * 50, "GET")
    said = ask(app, "", None, "/metrics", "GET")[1]
    for line in (
        'trackdl_requests_total{path="/invocations",status="200"} 2.0',
        'trackdl_requests_total{path="/invocations",status="400"} 1.0',
        'trackdl_requests_total{path="other",status="404"} 1.0',
        'trackdl_refusals_total{status="400"} 1.0',
        'trackdl_request_seconds_count{path="/invocations"} 3.0',
        'trackdl_model{model="echo",version="1"} 1.0',
    ):
        assert line in said.splitlines()


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({"host": "127.0.0.1:5001"}, 200, ""),
        ({"host": "[::1]:5001"}, 200, ""),
        ({"host": "192.168.0.7"}, 200, ""),
        ({"host": "LOCALHOST"}, 200, ""),
        ({"host": "models.example"}, 200, ""),
        ({"host": "evil.example:5001"}, 403, "--allowed-hosts evil.example"),
        ({"host": "127.0.0.1.evil.example"}, 403, "not called 127.0.0.1.evil.example"),
        ({"host": "[::1"}, 403, "not called that"),
        ({"host": "localhost:5001", "origin": "http://localhost:5001"}, 200, ""),
        ({"host": "localhost:5001", "origin": "https://models.example"}, 200, ""),
        ({"host": "localhost:5001", "origin": "http://localhost:8888"}, 403, "pages of http://localhost:8888"),
        ({"host": "localhost:5001", "origin": "http://evil.example"}, 403, "pages of http://evil.example"),
        ({"host": "localhost:5001", "origin": "null"}, 403, "pages of null"),
    ],
)
def test_pages_of_other_sites_are_refused(headers: dict[str, str], status: int, words: str) -> None:
    app = Guard(Echo(Limits()), hosts=["Models.example"])
    given_status, answer = ask(app, CHEAP, headers=headers)
    assert given_status == status
    assert words in answer.get("message", "")
    assert ask(Guard(Echo(Limits()), hosts=["*"]), CHEAP, headers=headers)[0] == 200


def test_a_deep_copy_is_not_made_of_a_large_request(greek: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.utils import proto_json_utils

    copied: list[Any] = []
    real = proto_json_utils.deepcopy

    def deepcopy(value: Any) -> Any:
        copied.append((value, real(value)))
        return copied[-1][1]

    monkeypatch.setattr(proto_json_utils, "deepcopy", deepcopy)
    assert ask(greek, {"inputs": [BLANK]})[0] == 200
    assert copied
    assert all(before is after for before, after in copied)
