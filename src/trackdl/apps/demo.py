"""`trackdl demo`: a page to draw on, with each registered image model's prediction, probabilities and input.

The page replaces Gradio: it needs no further package, loads nothing from other hosts, and shows the network's input.
Nothing leaves the machine; the Content-Security-Policy makes the browser enforce that.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import torch
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from trackdl import serving
from trackdl.apps.models import score
from trackdl.apps.serve import listening, run
from trackdl.data.preprocessing.image_files import read_image
from trackdl.errors import InputError, TrackdlError
from trackdl.serving import ServedImages
from trackdl.serving.door import ERROR_HANDLERS, Door, http_error, read_body
from trackdl.system.console import say
from trackdl.tracking.registry import versions
from trackdl.tracking.registry.files import find, verified

log = logging.getLogger(__name__)

PAGE = Path(__file__).with_name("page")
MAX_BYTES = 20 * 2**20  # a phone's photograph is smaller
UPLOAD_SECONDS = 60
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class DemoModel:
    """A registered model on the page: the network, or the reason why it cannot be used."""

    name: str
    version: str
    score: str
    served: ServedImages | None = None
    problem: str = ""


def load() -> list[DemoModel]:
    """Load the champion of every registered image model; a model that cannot be loaded is listed with the reason."""
    models = []
    for model in versions.every_model():
        chosen = next((item for item in model.versions if "champion" in item.aliases), None)
        if chosen is None:
            models.append(DemoModel(model.name, "", "", problem="none of its versions is champion"))
            continue
        try:
            with verified(find(f"models:/{model.name}/{chosen.version}")) as folder:
                served = serving.serve(folder / "data" / "model")
        except TrackdlError as error:
            log.warning("%s", error)
            models.append(DemoModel(model.name, chosen.version, score(chosen), problem=str(error)))
            continue
        if isinstance(served, ServedImages):
            models.append(DemoModel(model.name, chosen.version, score(chosen), served))
    return sorted(models, key=_order)


def _order(model: DemoModel) -> tuple[bool, bool, str]:
    """Sort models of drawn signs, which the page asks for, before those of photographs, and unusable ones last."""
    photographs = model.served is not None and model.served.card.preprocessing in ("fashion", "square")
    return model.served is None, photographs, model.name


def build(models: list[DemoModel], hosts: list[str]) -> Starlette:
    """Return the page's application.

    Args:
        models: The models on the page.
        hosts: The names that the page may be requested by, besides localhost and IP addresses.
    """
    at_once = anyio.CapacityLimiter(2)  # each may hold a large image in memory

    async def list_models(_: Request) -> Response:
        return JSONResponse([_description(model) for model in models])

    async def look(request: Request) -> Response:
        kind = request.headers.get("content-type", "none")
        # A page of another site can send the types of forms without asking the browser first, but none of these.
        if not kind.startswith("image/") and kind != "application/octet-stream":
            raise HTTPException(
                415, f"the content type is {kind[:100]}; it may be image/... or application/octet-stream"
            )
        content = await read_body(request, MAX_BYTES, UPLOAD_SECONDS, "scale the image down")
        try:
            return JSONResponse(await anyio.to_thread.run_sync(_look, models, content, limiter=at_once))
        except InputError as error:
            return http_error(400, str(error))

    return Starlette(
        routes=[
            Route("/models", list_models),
            Route("/look", look, methods=["POST"]),
            Mount("/", StaticFiles(directory=PAGE, html=True)),
        ],
        middleware=[
            Middleware(Door, hosts=hosts),
            Middleware(BaseHTTPMiddleware, dispatch=_add_headers),
        ],
        exception_handlers=ERROR_HANDLERS,
    )


async def _add_headers(request: Request, call_next: RequestResponseEndpoint) -> Response:
    response = await call_next(request)
    response.headers.update(_HEADERS)
    return response


def _description(model: DemoModel) -> dict[str, Any]:
    classes = model.served.card.classes if model.served else []
    return {
        "name": model.name,
        "version": model.version,
        "score": model.score,
        "problem": model.problem,
        "classes": classes,
    }


def _look(models: list[DemoModel], content: bytes) -> list[dict[str, Any]]:
    """Return each model's answer to an image file: probabilities by class, and its input, row by row.

    In colour, a pixel is three numbers.
    """
    usable = [model.served for model in models if model.served]
    image = read_image(content, colour=any(served.card.colour for served in usable))
    answers: list[dict[str, Any]] = []
    for model in models:
        if model.served is None:
            continue
        try:
            pixels = model.served.to_input(image)
        except InputError as error:
            answers.append({"name": model.name, "problem": str(error)})
            continue
        (answer,) = model.served.classify(pixels.unsqueeze(0))
        tones = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).flatten().tolist()
        card = model.served.card
        more = {"name": model.name, "shown": tones, "size": card.size, "preprocessing": card.preprocessing}
        answers.append(answer | more)
    return answers


def serve(host: str, port: int, hosts: Collection[str] = ()) -> None:
    """Serve the page until interrupted; `hosts` are further names by which it may be asked.

    Raises:
        InputError: The port is taken, or the host is not an address of this machine.
    """
    models = load()
    app = build(models, [host, *hosts])
    with listening(host, port) as (listener, address):
        names = ", ".join(f"{model.name} version {model.version}" for model in models if model.served)
        say(f"{names or 'No model is registered yet'}: draw at {address}; Ctrl-C stops it")
        run(app, listener)
