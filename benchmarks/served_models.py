"""What `serve.py` serves: one network's weights registered both ways, and the requests.

python served_models.py FOLDER PREPROCESSING prints the three servers' models as JSON; the requests' bodies are files
in the folder.
"""

import base64
import io
import json
import sys
from pathlib import Path
from typing import cast

import mlflow
import numpy as np
import torch
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from PIL import Image, ImageDraw

from trackdl import spec
from trackdl.data.catalogue import CATALOGUE
from trackdl.networks.digit import DigitNet
from trackdl.serving import ImageCard
from trackdl.spec import ClassifySpec, Preprocessing
from trackdl.system.paths import project_root
from trackdl.tracking import runs
from trackdl.tracking.registry import register as registry
from trackdl.tracking.registry.register import Score
from trackdl.training.trainer import seeded

BATCH = 256
DRAWINGS = 16  # at once
NAME = "mnist-cnn"


def pictures(count: int) -> np.ndarray:
    """Return uint8 [count, 28, 28] in MNIST's form: an upright stroke each, of varying width."""
    random = np.random.default_rng(0)
    drawn = np.zeros((count, 28, 28), np.uint8)
    for picture, half in zip(drawn, random.integers(1, 4, count), strict=True):
        picture[5:24, 14 - half : 15 + half] = random.integers(200, 256, (19, 2 * half + 1))
    return drawn


def drawings(count: int) -> list[Image.Image]:
    """Return images of 133×129 as the report's letters are: a dark sign on light paper, which has to be redrawn."""
    random = np.random.default_rng(0)
    made = []
    for middle in random.integers(30, 100, (count, 2)).tolist():
        image = Image.new("L", (133, 129), 250)
        ImageDraw.Draw(image).line([(25, 20), tuple(middle), (105, 25), (60, 110)], fill=20, width=6, joint="curve")
        made.append(image)
    return made


def prepare(folder: Path, preprocessing: Preprocessing) -> dict[str, str]:
    """Register the models in the store of MLFLOW_TRACKING_URI, write the requests; return the models by server."""
    mean, std = CATALOGUE["mnist"].mean_std
    with seeded(0):
        model = DigitNet().eval()
    drawn = pictures(BATCH)
    tensors = ((drawn.astype(np.float32) / 255 - mean) / std)[:, None]
    card = ImageCard(
        network="DigitNet",
        arguments={"classes": 10},
        classes=list("0123456789"),
        mean=mean,
        std=std,
        preprocessing=preprocessing,
    )
    with runs.start(spec.load(project_root() / "experiments" / "mnist.yaml", ClassifySpec)) as run:
        model_id, _ = registry.log_model(run, model, card, drawn[:2], 1)
        registry.register(NAME, run, model_id, Score("test_accuracy", 0.0, "a benchmark", ""), {})
        signature = ModelSignature(inputs=Schema([TensorSpec(np.dtype("float32"), (-1, 1, 28, 28))]))
        plain = mlflow.pytorch.log_model(
            model, name="plain", signature=signature, input_example=tensors[:2], pip_requirements=["torch", "mlflow"]
        )
        plain_uri = plain.model_uri
    _check(plain_uri, model, tensors)
    for name, size in (("1", 1), ("many", BATCH)):
        forms = {
            "tensors": tensors[:size].tolist(),
            "pixels": drawn[:size].tolist(),
            "png": [_png(Image.fromarray(picture)) for picture in drawn[:size]],
            "drawing": list(map(_png, drawings(min(size, DRAWINGS)))),
        }
        for form, inputs in forms.items():
            (folder / f"{form}-{name}.json").write_text(json.dumps({"inputs": inputs}))
    return {"plain": plain_uri, "mlflow": f"models:/{NAME}@champion", "trackdl": NAME}


def _check(uri: str, model: torch.nn.Module, tensors: np.ndarray) -> None:
    """Check that the plain model computes the same, for a whole batch."""
    outputs = mlflow.pyfunc.load_model(uri).predict(tensors)
    with torch.no_grad():
        np.testing.assert_allclose(outputs, model(torch.from_numpy(tensors)), atol=1e-5)


def _png(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


if __name__ == "__main__":
    print(json.dumps(prepare(Path(sys.argv[1]), cast(Preprocessing, sys.argv[2]))))
