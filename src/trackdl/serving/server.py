"""MLflow's scoring server for one model of trackdl's, behind a guard: what `trackdl serve` runs."""

import io
import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel, scoring_server

from trackdl import serving
from trackdl.serving.guard import CSV, JSON, Answer, Guard, Limits
from trackdl.serving.pyfunc import Named, Refusal

__all__ = ["build"]

log = logging.getLogger(__name__)

_LONGEST_MESSAGE = 2000


class _Strict(PyFuncModel):
    """MLflow's model, but for columns that no signature names: MLflow leaves them out, here they are refused."""

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
        artifact: The folder of a registered version, its files checked; only its data are loaded, with this code.
        name: The model's registered name.
        version: Its version.
        limits: What a request may be.
    """
    # Requests run side by side in threads of their own; these networks gain nothing from more.
    torch.set_num_threads(1)
    meta = Model.load(str(artifact))
    served = Named(serving.serve(artifact / "data" / "model"), name, version, frame=False)
    model = _Strict(model_meta=meta, model_impl=served)
    schema = meta.signature.inputs if meta.signature else None

    # MLflow gives these no types.
    answered: Any = scoring_server.invocations

    def answer(given: Any, kind: str) -> Answer:
        try:
            asked = _csv(given) if kind == CSV else _without_index(given)
            done = answered(asked, JSON, model, schema)
        except MlflowException as error:
            return Answer(_status(error), _said(error.error_code, error.message))
        except Exception:
            # The guard lets through only what is well formed, so this is a shape that MLflow's parser did not expect.
            log.exception("a request that MLflow's parser failed at")
            return Answer(400, _said("BAD_REQUEST", "the request could not be read; is it of one of MLflow's forms?"))
        return Answer(done.status, done.response, done.mimetype)

    return Guard(answer, scoring_server.init(model), limits)


def _csv(text: str) -> dict[str, Any]:
    """Return a CSV's cells as texts, in one of MLflow's JSON forms: what they mean is for the model to say."""
    try:
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, skipinitialspace=True, index_col=False)
    except (ValueError, pd.errors.ParserWarning) as error:
        raise Refusal(f"the body is not a CSV table: {' '.join(str(error).split())[:200]}") from None
    return {"dataframe_split": {"columns": [str(name) for name in table.columns], "data": table.to_numpy().tolist()}}


def _without_index(given: dict[str, Any]) -> dict[str, Any]:
    """Return a request without the names of its rows: no answer has them, and MLflow looks for a row named 0."""
    split = given.get("dataframe_split")
    if not isinstance(split, dict):
        return given
    return {"dataframe_split": {key: value for key, value in split.items() if key != "index"}}


def _status(error: Any) -> int:
    return int(error.get_http_status_code())


def _said(code: str, message: str) -> str:
    # MLflow repeats the request before what is wrong with it.
    message = message.rpartition("'. \nError: ")[2]
    if message.startswith("Failed to enforce schema"):
        message = message.rpartition("'. Error: ")[2]
    return json.dumps({"error_code": code, "message": message[:_LONGEST_MESSAGE]})
