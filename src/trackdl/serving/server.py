"""MLflow's scoring server for one model of trackdl's, behind a guard: what `trackdl serve` runs."""

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
from trackdl.serving.guard import Answer, Guard, Limits
from trackdl.serving.pyfunc import Named, Refusal

__all__ = ["build"]

log = logging.getLogger(__name__)

# MLflow's messages end with what is wrong, after the request that they repeat.
_LONGEST_MESSAGE = 2000


class _Strict(PyFuncModel):  # type: ignore[misc]
    """MLflow's model, but for columns that no signature names: MLflow leaves them out, here they are refused."""

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        schema = self.metadata.get_input_schema()
        if schema.has_input_names() and isinstance(data, pd.DataFrame | dict):
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
    model = _Strict(model_meta=meta, model_impl=Named(serving.serve(artifact / "data" / "model"), name, version))
    schema = meta.get_input_schema()

    def answer(given: Any, kind: str) -> Answer:
        try:
            done = scoring_server.invocations(given, kind, model, schema)
        except MlflowException as error:
            return Answer(error.get_http_status_code(), _said(error.error_code, error.message))
        except Exception:
            # The guard lets through only what is well formed, so this is a shape that MLflow's parser did not expect.
            log.exception("a request that MLflow's parser failed at")
            return Answer(400, _said("BAD_REQUEST", "the request could not be read; is it of one of MLflow's forms?"))
        return Answer(done.status, done.response, done.mimetype)

    return Guard(answer, scoring_server.init(model), limits)


def _said(code: str, message: str) -> str:
    return json.dumps({"error_code": code, "message": message.rsplit("Error: ", 1)[-1][:_LONGEST_MESSAGE]})
