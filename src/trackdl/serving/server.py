"""MLflow's scoring server for one model of trackdl, behind a guard: `trackdl serve` runs it."""

import io
import logging
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel, scoring_server
from starlette.responses import Response

from trackdl import serving
from trackdl.errors import one_line
from trackdl.serving.guard import CSV, JSON, Guard, Limits, http_error
from trackdl.serving.pyfunc import NamedModel, Refusal

log = logging.getLogger(__name__)

_LONGEST_MESSAGE = 2000
_BYTES_OF_A_NUMBER = 20  # in JSON, at most, and a comma: one image of any size fits into a request


class _Strict(PyFuncModel):
    """MLflow's model, which refuses columns that are not in its signature; MLflow drops them."""

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        schema: Any = self.metadata.signature.inputs if self.metadata.signature else None
        if schema and schema.has_input_names() and isinstance(data, pd.DataFrame | dict):
            names = schema.input_names()
            unknown = [repr(name)[:60] for name in data if name not in names]
            if unknown:
                raise Refusal(f"unknown column {', '.join(unknown[:6])}. The columns are {', '.join(names)}")
        return super().predict(data, params)


def build(artifact: Path, name: str, version: str, limits: Limits | None = None) -> Guard:
    """Return the server of a model, an ASGI application that answers as MLflow's does.

    Args:
        artifact: The folder of a registered version, whose files were verified; no code of it is loaded.
        name: The model's registered name.
        version: Its version.
        limits: The limits of a request; by default, at least one image as pixels fits into it.
    """
    meta = Model.load(str(artifact))
    model = serving.serve(artifact / "data" / "model")
    if limits is None and isinstance(model, serving.ServedImages):
        limits = Limits(body=max(Limits.body, _BYTES_OF_A_NUMBER * model.card.channels * model.card.size**2))
    served = NamedModel(model, name, version, frame=False)
    strict = _Strict(model_meta=meta, model_impl=served)
    schema = meta.signature.inputs if meta.signature else None

    invocations: Any = scoring_server.invocations  # MLflow gives it no types

    def answer(given: Any, kind: str) -> Response:
        try:
            done = invocations(_parse_csv(given) if kind == CSV else _without_index(given), JSON, strict, schema)
        except MlflowException as error:
            return _refusal(error)
        except Exception:
            # The guard passes on well-formed requests only: MLflow's parser did not expect this one's shape.
            log.exception("MLflow's parser failed on a request")
            return http_error(400, "the request could not be read; is it in one of MLflow's forms?")
        return Response(done.response, done.status, media_type=done.mimetype)

    return Guard(answer, scoring_server.init(strict), limits)


def _parse_csv(text: str) -> dict[str, Any]:
    """Return a CSV's cells in one of MLflow's JSON forms, as texts, which the model itself converts."""
    try:
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, skipinitialspace=True, index_col=False)
    except (ValueError, pd.errors.ParserWarning) as error:
        raise Refusal(f"the body is not a CSV table: {one_line(error)}") from None
    return {"dataframe_split": {"columns": [str(name) for name in table.columns], "data": table.to_numpy().tolist()}}


def _without_index(given: dict[str, Any]) -> dict[str, Any]:
    """Return a request without row names: no answer contains them, and MLflow looks for a row named 0."""
    split = given.get("dataframe_split")
    if not isinstance(split, dict):
        return given
    return {"dataframe_split": {key: value for key, value in split.items() if key != "index"}}


def _refusal(error: Any) -> Response:
    # MLflow puts the request in front of the message.
    message = error.message.rpartition("'. \nError: ")[2]
    if message.startswith("Failed to enforce schema"):
        message = message.rpartition("'. Error: ")[2]
    return http_error(int(error.get_http_status_code()), message[:_LONGEST_MESSAGE], error.error_code)
