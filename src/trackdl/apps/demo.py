"""`trackdl demo`: a page to draw on. What each registered model of pictures says, how sure it is, what it was shown.

A page of its own rather than Gradio: it needs no package that trackdl does not have, loads nothing from elsewhere, and
can show what the network saw. Nothing leaves the machine; the Content-Security-Policy holds the browser to that.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
import torch
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from trackdl import serving
from trackdl.apps.serve import listening, run
from trackdl.data.preprocessing.image_files import read_image
from trackdl.errors import InputError, TrackdlError
from trackdl.serving import ServedPictures
from trackdl.system.console import say
from trackdl.tracking.registry import files as artifacts
from trackdl.tracking.registry import versions

__all__ = ["Tried", "build", "load", "serve"]

log = logging.getLogger(__name__)

PAGE = Path(__file__).with_name("page")
MAX_BYTES = 20 * 2**20  # a phone's photograph
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Tried:
    """A registered model on the page: the network, or why it cannot be tried."""

    name: str
    version: str
    score: str
    served: ServedPictures | None = None
    problem: str = ""


def load() -> list[Tried]:
    """Load the champion of every registered model of pictures; what cannot be loaded is named with its reason."""
    models = []
    for model in versions.every_model():
        chosen = next((item for item in model.versions if "champion" in item.aliases), None)
        if chosen is None:
            models.append(Tried(model.name, "", "", problem="no version of it is champion"))
            continue
        score = "" if chosen.score is None else f"{chosen.decided_by.split(' ')[0]} {chosen.score:.4f}"
        try:
            with artifacts.verified(artifacts.find(f"models:/{model.name}/{chosen.version}")) as folder:
                served = serving.serve(folder / "data" / "model")
        except TrackdlError as error:
            log.warning("%s", error)
            models.append(Tried(model.name, chosen.version, score, problem=str(error)))
            continue
        if isinstance(served, ServedPictures):
            models.append(Tried(model.name, chosen.version, score, served))
    return sorted(models, key=_place)


def _place(model: Tried) -> tuple[bool, bool, str]:
    """Models of signs come first on a page that asks for one, then those of garments, then what cannot be tried."""
    garments = model.served is not None and model.served.card.preprocessing == "fashion"
    return model.served is None, garments, model.name


def build(models: list[Tried], hosts: list[str]) -> Starlette:
    """Return the page's application.

    Args:
        models: What is tried.
        hosts: The names under which the page may be asked for, without port.
    """

    async def listed(_: Request) -> Response:
        return JSONResponse([_described(model) for model in models], headers=_HEADERS)

    async def looked(request: Request) -> Response:
        try:
            content = await _content(request)
            said = await anyio.to_thread.run_sync(_look, models, content)
        except InputError as error:
            return JSONResponse({"problem": str(error)}, status_code=400, headers=_HEADERS)
        return JSONResponse(said, headers=_HEADERS)

    files = {"/": "index.html", "/page.js": "page.js", "/page.css": "page.css", "/icon.svg": "icon.svg"}
    routes = [Route(path, _file(name)) for path, name in files.items()]
    routes += [Route("/models", listed), Route("/look", looked, methods=["POST"])]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)])


def _file(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return FileResponse(PAGE / name, headers=_HEADERS)

    return answer


async def _content(request: Request) -> bytes:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BYTES:
            raise InputError(f"the picture has more than {MAX_BYTES // 2**20} MB. Scale it down.")
    return bytes(content)


def _described(model: Tried) -> dict[str, Any]:
    classes = model.served.card.classes if model.served else []
    described = {"version": model.version, "score": model.score, "problem": model.problem, "classes": classes}
    return {"name": model.name} | described


def _look(models: list[Tried], content: bytes) -> list[dict[str, Any]]:
    """Return what each model says of a picture file: probabilities by class, and the 784 pixels that it was shown."""
    picture = read_image(content)
    said: list[dict[str, Any]] = []
    for model in models:
        if model.served is None:
            continue
        try:
            shown = model.served.shown([picture])
        except InputError as error:
            said.append({"name": model.name, "problem": str(error).removeprefix("image 1: ")})
            continue
        answer = model.served.answer(shown)[0]
        pixels = (shown[0, 0] * 255).round().to(torch.uint8).flatten().tolist()
        said.append(
            {
                "name": model.name,
                "label": answer["label"],
                "probabilities": answer["probabilities"],
                "shown": pixels,
                "preprocessing": model.served.card.preprocessing,
            }
        )
    return said


def serve(host: str, port: int) -> None:
    """Serve the page until interrupted.

    Raises:
        InputError: The port is taken, or the address is not one of this machine's.
    """
    torch.set_num_threads(1)
    models = load()
    app = build(models, [host, "127.0.0.1", "localhost"])
    with listening(host, port) as (listener, address):
        names = ", ".join(f"{model.name} version {model.version}" for model in models if model.served)
        say(f"{names or 'No model is registered yet'}: draw at {address}; Ctrl-C stops it")
        run(app, listener)
