"""`trackdl demo`: a page on which a registered model answers a drawing, an image or a row of a table.

The page replaces Gradio: it needs no further package, loads nothing from other hosts, and shows what the network sees.
Nothing leaves the machine; the Content-Security-Policy makes the browser enforce that.
"""

import io
import json
import logging
import unicodedata
import webbrowser
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import torch
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from torch import Tensor

from trackdl import serving
from trackdl.apps import learnt
from trackdl.apps.learnt import Compared
from trackdl.apps.serve import LOCAL, listening, run
from trackdl.data.download.datasets import without_fetching
from trackdl.data.preprocessing.image_files import read_image
from trackdl.errors import InputError, TrackdlError, one_line
from trackdl.serving import ServedImages, ServedTable
from trackdl.serving.door import ERROR_HANDLERS, Door, http_error, read_body
from trackdl.serving.guard import JSON, Limits, parse
from trackdl.serving.insides import look_inside
from trackdl.system.console import say
from trackdl.tracking.registry import versions
from trackdl.tracking.registry.files import find, input_example, verified
from trackdl.tracking.registry.versions import Version

log = logging.getLogger(__name__)

PAGE = Path(__file__).with_name("page")
MAX_BYTES = 20 * 2**20  # a phone's photograph is smaller
UPLOAD_SECONDS = 60
_MOST_SIGNS = 100  # on an image; `split_digits` finds fewer
_NEAREST = 5  # training images that are shown
_ROW = Limits(body=2**16, items=1)
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class DemoModel:
    """A registered model on the page: the network, or the reason why it cannot be used.

    `examples` are inputs that were registered with it: images, or a table's rows; `run_id` is the run that trained it.
    """

    name: str
    version: str
    score: str
    served: ServedImages | ServedTable | None = None
    problem: str = ""
    examples: Sequence[Any] = ()
    run_id: str = ""


def load() -> list[DemoModel]:
    """Load the champion of every registered model; a model that cannot be loaded is listed with the reason."""
    models = []
    for model in versions.every_model():
        chosen = next((item for item in model.versions if "champion" in item.aliases), None)
        if chosen is None:
            models.append(DemoModel(model.name, "", "", problem="none of its versions is champion"))
            continue
        try:
            found = find(f"models:/{model.name}/{chosen.version}")
            with verified(found) as folder:
                served = serving.serve(folder / "data" / "model")
                given = input_example(folder)
        except TrackdlError as error:
            log.warning("%s", error)
            models.append(DemoModel(model.name, chosen.version, _score(chosen), problem=str(error)))
            continue
        examples, run_id = _examples(served, given), str(found.run_id)
        models.append(DemoModel(model.name, chosen.version, _score(chosen), served, examples=examples, run_id=run_id))
    return sorted(models, key=_order)


def _score(version: Version) -> str:
    """Return the accuracy that decided about a version, in words; nothing if there is none."""
    part = version.decided_by.partition("_")[0]
    said = {"val": "validation", "cv": "cross-validated"}.get(part, part)
    return "" if version.score is None else f"{said} accuracy {100 * version.score:.2f} %".lstrip()


def _examples(served: ServedImages | ServedTable, given: Any) -> list[Any]:
    if isinstance(served, ServedTable):
        rows: list[Any] = [] if given is None else json.loads(given.to_json(orient="records"))  # what is missing: null
        return rows
    return [Image.fromarray(pixels) for pixels in np.asarray([] if given is None else given, dtype=np.uint8)]


def _order(model: DemoModel) -> tuple[bool, bool, bool, str]:
    """Sort models of drawn signs before those of photographs, then tables, and unusable ones last."""
    table = isinstance(model.served, ServedTable)
    photographs = isinstance(model.served, ServedImages) and model.served.card.preprocessing in ("fashion", "square")
    return model.served is None, table, photographs, model.name


def build(models: list[DemoModel], hosts: list[str], *, shows_training: bool = True) -> Starlette:
    """Return the page's application.

    Args:
        models: The models on the page.
        hosts: The names that the page may be requested by, besides localhost and IP addresses.
        shows_training: Whether visitors may see training images, the nearest ones to theirs.
    """
    at_once = anyio.CapacityLimiter(2)  # each may hold a large image in memory
    one_by_one = Lock()
    learning: dict[str, Future[Compared]] = {}  # the training images of the models that were asked for them

    async def list_models(_: Request) -> Response:
        return JSONResponse([_description(model) for model in models])

    async def example(request: Request) -> Response:
        (model,) = _asked(models, request, ServedImages)[:1]
        file = io.BytesIO()
        model.examples[_number(request, "number", len(model.examples))].save(file, "PNG")
        return Response(file.getvalue(), media_type="image/png")

    async def look(request: Request) -> Response:
        kind = request.headers.get("content-type", "none")
        # A page of another site can send the types of forms without asking the browser first, but none of these.
        if not kind.startswith("image/") and kind != "application/octet-stream":
            raise HTTPException(
                415, f"the content type is {kind[:100]}; it may be image/... or application/octet-stream"
            )
        asked = _asked(models, request, ServedImages)
        query = request.query_params
        shown = _number(request, "example", len(asked[0].examples)) if "example" in query else None
        inside = _number(request, "inside", _MOST_SIGNS) if "inside" in query else None
        content = await read_body(request, MAX_BYTES, UPLOAD_SECONDS, "scale the image down")
        name = asked[0].name
        if inside is not None and shows_training and name not in learning:
            learning[name] = _beside(asked[0], one_by_one)
        known = learning.get(name) if inside is not None else None
        answers = await anyio.to_thread.run_sync(_look, asked, content, shown, inside, known, limiter=at_once)
        return JSONResponse(answers)

    async def computing(request: Request) -> Response:
        """Say whether a model's training images are still being read: the page asks until it sends its image again."""
        (model,) = _asked(models, request, ServedImages)[:1]
        return JSONResponse(model.name in learning and not learning[model.name].done())

    async def row(request: Request) -> Response:
        if request.headers.get("content-type") != JSON:
            raise HTTPException(415, f"the content type may be {JSON} only")
        (model,) = _asked(models, request, ServedTable)[:1]
        given = parse(await read_body(request, _ROW.body, UPLOAD_SECONDS, "send one row"), JSON, _ROW)
        return JSONResponse(await anyio.to_thread.run_sync(_row, model, given, limiter=at_once))

    return Starlette(
        routes=[
            Route("/models", list_models),
            Route("/example", example),
            Route("/look", look, methods=["POST"]),
            Route("/computing", computing),
            Route("/row", row, methods=["POST"]),
            Mount("/", StaticFiles(directory=PAGE, html=True)),
        ],
        middleware=[
            Middleware(Door, hosts=hosts),
            Middleware(BaseHTTPMiddleware, dispatch=_add_headers),
        ],
        exception_handlers=ERROR_HANDLERS | {InputError: _refuse},
    )


async def _refuse(_: Request, error: InputError) -> Response:
    return http_error(400, str(error))


async def _add_headers(request: Request, call_next: RequestResponseEndpoint) -> Response:
    response = await call_next(request)
    response.headers.update(_HEADERS)
    return response


def _asked(models: list[DemoModel], request: Request, kind: type) -> list[DemoModel]:
    """Return the models that a request names, in its order, or all of a kind."""
    usable = {model.name: model for model in models if isinstance(model.served, kind)}
    names = list(dict.fromkeys(request.query_params.getlist("model"))) or list(usable)
    if not names or (unknown := [name for name in names if name not in usable]):
        wrong = f"no such model: {unknown[0][:100]}" if names else "there is no such model"
        raise HTTPException(404, f"{wrong}; those that can be asked this are {', '.join(usable) or 'none'}")
    return [usable[name] for name in names]


def _number(request: Request, key: str, end: int) -> int:
    """Return a number of a request's query, from 0."""
    text = request.query_params.get(key, "")
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) < end):
        raise HTTPException(400, f"{key}={text[:100]}: it may be a whole number from 0 to {end - 1}")
    return int(text)


def _description(model: DemoModel) -> dict[str, Any]:
    said: dict[str, Any] = {key: getattr(model, key) for key in ("name", "version", "score", "problem")}
    if isinstance(model.served, ServedTable):
        card = model.served.card
        columns = [column.model_dump() for column in card.columns]
        return said | {"knows": card.target, "columns": columns, "examples": model.examples}
    if model.served:
        classes = model.served.card.classes
        return said | {"knows": _knows(model.served), "classes": classes, "examples": len(model.examples)}
    return said


def _knows(served: ServedImages) -> str:
    """Return what one may show a model, by its card: a digit, a letter, a garment, or else its first classes."""
    if served.card.preprocessing == "fashion":
        return "garment"
    kinds = {_kind(name) for name in served.card.classes}
    if kinds <= {"digit", "letter"}:
        return " or ".join(sorted(kinds))
    return ", ".join(served.card.classes[:3]) + (", …" if len(served.card.classes) > 3 else "")


def _kind(name: str) -> str:
    if len(name) == 1:
        return "digit" if name.isdigit() else "letter" if name.isalpha() else ""
    try:
        return "letter" if unicodedata.lookup(f"Greek small letter {name}") else ""
    except KeyError:
        return ""


def _look(
    models: list[DemoModel], content: bytes, shown: int | None, inside: int | None, known: Future[Compared] | None
) -> list[dict[str, Any]]:
    """Return each model's answers to an image file, or to an example of the first model.

    Args:
        models: The models.
        content: The image file.
        shown: The number of the example, instead of a file.
        inside: The number of the sign of which the first model's insides are returned.
        known: With `inside`, the first model's training images.

    Returns:
        For each model its `name`, and `problem` or `signs`: for each sign on the image the answer, and the network's
        input, `shown`, row by row. In colour, a pixel is three numbers.
    """
    images = [model.served for model in models if isinstance(model.served, ServedImages)]
    colour = any(served.card.colour for served in images)
    image = read_image(content, colour=colour) if shown is None else models[0].examples[shown]
    answers: list[dict[str, Any]] = []
    for model, served in zip(models, images, strict=True):
        first = not answers
        try:
            inputs = _as_they_are(image) if shown is not None and first else _inputs(served, image)
        except InputError as error:
            answers.append({"name": model.name, "problem": str(error)})
            continue
        signs = served.classify(inputs)
        for sign, pixels in zip(signs, inputs, strict=True):
            sign["shown"] = _tones(pixels * 255)
        if first and inside is not None and inside < len(signs):
            seen = inputs[inside]
            signs[inside]["inside"] = _inside(served, seen) | {"nearest": _nearest(served, seen, known)}
        card = served.card
        answers.append({"name": model.name, "signs": signs, "size": card.size, "preprocessing": card.preprocessing})
    return answers


def _inputs(served: ServedImages, image: Image.Image) -> Tensor:
    if served.card.preprocessing == "mnist":
        return served.split(image if image.mode == served.mode else image.convert(served.mode))
    return served.to_input(image).unsqueeze(0)


def _as_they_are(image: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(image, dtype=np.float32)) / 255
    return (pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels.unsqueeze(0)).unsqueeze(0)


def _tones(pixels: Tensor) -> list[int]:
    """Return tones, [channels, height, width], as whole numbers from 0 to 255, pixel by pixel."""
    tones: list[int] = pixels.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).flatten().tolist()
    return tones


def _inside(served: ServedImages, pixels: Tensor) -> dict[str, Any]:
    """Return a network's insides: each map from 0 to 255, and each pixel's share from -100 to 100."""
    found = look_inside(served, pixels)
    shares = found.shares / found.shares.abs().max().clamp(min=1e-12) * 100
    said = {"shares": shares.round().int().tolist(), "runner_up": found.runner_up, "channels": found.channels}
    if found.maps is None:
        return said | {"maps": []}
    low, high = found.maps.amin(), found.maps.amax()
    maps = (found.maps - low) / (high - low).clamp(min=1e-12) * 255
    return said | {"maps": [_tones(one.unsqueeze(0)) for one in maps], "width": maps.shape[2]}


def _beside(model: DemoModel, one_by_one: Lock) -> Future[Compared]:
    """Compute a model's `Compared` while requests are answered, by a thread that does not keep the command alive."""
    found: Future[Compared] = Future()

    def work() -> None:
        try:
            with one_by_one:
                found.set_result(_compared(model))
        except Exception as error:
            log.warning("%s: its training images cannot be shown: %s", model.name, one_line(error, 400))
            found.set_exception(error)

    Thread(target=work, daemon=True).start()
    return found


def _compared(model: DemoModel) -> Compared:
    """Read a model's training images, if they are on this machine, and compute their features."""
    served: Any = model.served  # a network of images, as `_asked` has found
    with without_fetching():
        images: Any = learnt.read(model.run_id, served, tested=False)
    return learnt.compared(served, images)


def _nearest(served: ServedImages, pixels: Tensor, known: Future[Compared] | None) -> dict[str, Any]:
    """Return the training images that a network sees as most like an image; or `computing`, or a `problem`."""
    if not known:
        return {"problem": "other machines may ask this page, and training images may be private"}
    if not known.done():
        return {"computing": True}
    if error := known.exception():
        # It is not tried again at each stroke.
        return {"problem": f"{one_line(error, 400).rstrip('.')}. After a restart, `trackdl demo` tries again"}
    found = known.result()
    (mine, _), *_ = learnt.batches(served, pixels.unsqueeze(0))
    near, places = learnt.nearest(mine, [found.features], _NEAREST)
    labels = [served.card.classes[label] for label in found.labels[places]]
    images = [
        {"label": label, "distance": distance, "shown": _tones(pixels)}
        for label, distance, pixels in zip(labels, near.tolist(), found.shown[places], strict=True)
    ]
    said = {"compared": len(found.labels), "total": found.total, "synthetic": found.synthetic}
    return said | {"images": images, "size": found.shown.shape[-1]}


def _row(model: DemoModel, given: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a model's answers to the rows of a request, in the form of `_look`'s."""
    served: Any = model.served  # a table's, as `_asked` has found
    return [{"name": model.name, "signs": served.records(next(iter(given.values())))}]


def serve(host: str, port: int, hosts: Collection[str] = (), *, browse: bool = False) -> None:
    """Serve the page until interrupted.

    Args:
        host: The address to listen on.
        port: The port; 0 takes a free one.
        hosts: Further names by which the page may be asked.
        browse: Open the page in the browser.

    Raises:
        InputError: The port is taken, or the host is not an address of this machine.
    """
    models = load()
    app = build(models, [host, *hosts], shows_training=host in LOCAL and not hosts)
    with listening(host, port) as (listener, address):
        names = ", ".join(f"{model.name} version {model.version}" for model in models if model.served)
        say(f"{names or 'No model is registered yet'}: try it at {address}; Ctrl-C stops it")
        if browse:
            webbrowser.open(address)  # the socket listens already: the browser's request waits for the server
        run(app, listener)
