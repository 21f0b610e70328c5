"""What the tests of serving share: tiny registered models, and a client for an ASGI application without a network."""

import asyncio
import base64
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from pydantic import TypeAdapter

from support import ROOT
from support.tables import CLASSES, load_heart
from trackdl import spec
from trackdl.data.tables.heart import FEATURES
from trackdl.data.tables.inputs import Preparation
from trackdl.networks.build import make
from trackdl.networks.digit import DigitNet
from trackdl.networks.heart import HeartNets
from trackdl.serving import ImageCard, ServedImages, TableCard
from trackdl.spec.network import Network
from trackdl.spec.table import TableInputs
from trackdl.tracking import runs
from trackdl.tracking.registry import register as registry
from trackdl.tracking.registry.register import Decision, Score
from trackdl.training.trainer import seeded

EXPERIMENT = spec.load(ROOT / "experiments" / "mnist.yaml", spec.ClassifySpec)
GREEK = ("alpha", "beta", "gamma")
ROW = {
    "Age": 54,
    "Sex": "M",
    "ChestPainType": "ASY",
    "RestingBP": 140,
    "Cholesterol": 239,
    "FastingBS": 0,
    "RestingECG": "Normal",
    "MaxHR": 160,
    "ExerciseAngina": "N",
    "Oldpeak": 1.2,
    "ST_Slope": "Flat",
}


def network(classes: int = 10, seed: int = 0) -> DigitNet:
    with seeded(seed):
        return DigitNet(classes).eval()


def card(classes: tuple[str, ...], preprocessing: str = "mnist") -> ImageCard:
    arguments = {"classes": len(classes)}
    return ImageCard(
        network="DigitNet",
        arguments=arguments,
        classes=list(classes),
        mean=0.1307,
        std=0.3081,
        preprocessing=preprocessing,
    )


def colour_model(size: int = 12) -> ServedImages:
    """Make a model of colour images of three classes, with a preprocessing and a normalisation of their own."""
    layers = [{"conv": 4, "size": 3}, "relu", "flatten", {"dense": "classes"}]
    with seeded(3):
        model = make(TypeAdapter(Network).validate_python({"layers": layers}), 3, size, 3).eval()
    said = ImageCard(
        network=type(model).__name__,
        arguments=model.arguments,
        classes=["red", "green", "blue"],
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.25, 0.3),
        preprocessing="square",
        size=size,
        colour=True,
    )
    return ServedImages(model, said)


def add_pictures(
    name: str = "greek-cnn",
    value: float = 0.9,
    seed: int = 0,
    preprocessing: str = "mnist",
    lineage: Mapping[str, str] | None = None,
    classes: tuple[str, ...] = (),
) -> Decision:
    """Register a network with random weights."""
    classes = classes or (GREEK if name == "greek-cnn" else tuple("0123456789"))
    with runs.start(EXPERIMENT) as run:
        model = network(len(classes), seed)
        pixels = np.zeros((1, 28, 28))
        model_id, _ = registry.log_model(run, model, card(classes, preprocessing), pixels, 1)
        run.metrics({"val_accuracy": value}, step=1, model_id=model_id)
        score = Score("val_accuracy", value, "a test says so", "d1")
        return registry.register(name, run, model_id, score, lineage or {})


def add_colour() -> Decision:
    served = colour_model()
    with runs.start(EXPERIMENT) as run:
        model_id, _ = registry.log_model(run, served.model, served.card, np.zeros((1, 12, 12, 3)), 1)
        return registry.register("flags", run, model_id, Score("val_accuracy", 0.9, "a test says so", "d3"), {})


def heart_model() -> tuple[HeartNets, TableCard]:
    table = load_heart()
    settings = TableInputs(encoding="one-hot", missing_zeros=True, variance=0.95)
    preparation = Preparation.fit(table.train_rows, settings, FEATURES)
    with seeded(0):
        model = HeartNets(2, [10], inputs=preparation.width, logits=True)
    said = TableCard(
        network="HeartNets",
        arguments=model.arguments,
        classes=list(CLASSES),
        preparation=preparation,
        columns=FEATURES,
        target="HeartDisease",
    )
    return model.eval(), said


def add_heart(**cells: Any) -> Decision:
    """Register a network of the heart table with random weights; `cells` replace those of its example's rows."""
    model, said = heart_model()
    example = load_heart().test_rows.drop(columns="HeartDisease").head(2).reset_index(drop=True).assign(**cells)
    with runs.start(EXPERIMENT) as run:
        model_id, _ = registry.log_model(run, model, said, example, 1)
        return registry.register("heart-mlp", run, model_id, Score("cv_accuracy", 0.9, "a test says so", "d2"), {})


def letter(mode: str = "RGB") -> Image.Image:
    """Draw a letter, blue on white."""
    image = Image.new("RGB", (300, 240), "white")
    brush = ImageDraw.Draw(image)
    brush.line([(80, 60), (150, 120), (190, 200)], fill=(20, 20, 160), width=14)
    brush.line([(210, 50), (150, 120), (120, 200)], fill=(20, 20, 160), width=14)
    return image.convert(mode)


def content(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def ask(
    app: Any,
    body: bytes | str | dict[str, Any],
    kind: str | None = "application/json",
    path: str = "/invocations",
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    chunk: int = 65536,
    query: str = "",
) -> tuple[int, Any]:
    """Send a request to an ASGI application in chunks; return the status and the parsed (or plain) body."""
    if isinstance(body, dict):
        body = json.dumps(body)
    data = body.encode() if isinstance(body, str) else body
    given = {"host": "localhost", "content-length": str(len(data)), **({"content-type": kind} if kind else {})}
    given |= headers or {}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http",
        "headers": [(key.encode(), value.encode()) for key, value in given.items()],
    }
    parts = _parts(data, chunk)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return next(parts)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    status = sent[0]["status"]
    answer = b"".join(message.get("body", b"") for message in sent[1:]).decode()
    try:
        return status, json.loads(answer)
    except ValueError:
        return status, answer


def _parts(data: bytes, chunk: int) -> Iterator[dict[str, Any]]:
    for start in range(0, max(len(data), 1), chunk):
        more = start + chunk < len(data)
        yield {"type": "http.request", "body": data[start : start + chunk], "more_body": more}
    while True:
        yield {"type": "http.disconnect"}
