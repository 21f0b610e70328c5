"""MLflow's scoring of requests for one version of a model: `trackdl serve` puts it behind the guard."""

import gc
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from joblib.externals.loky.process_executor import BrokenProcessPool
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel, scoring_server
from starlette.exceptions import HTTPException
from starlette.responses import Response

from trackdl import serving
from trackdl.data.tables.cells import called, read_cells
from trackdl.errors import InputError, TrackdlError
from trackdl.serving.door import busy, http_error
from trackdl.serving.guard import CSV, JSON, Limits, parse
from trackdl.serving.images import CostlyError
from trackdl.serving.pyfunc import NamedModel, Refusal
from trackdl.system.processes import freeze_imports, quiet_libraries
from trackdl.workers.pool import ONE_THREAD, prepare_worker
from trackdl.workers.process import WorkerProcess

log = logging.getLogger(__name__)

_LONGEST_MESSAGE = 2000
# Seconds of a core that a request's image files may take, in this process and in the one for costly requests.
_CHEAP, _COSTLY = 0.06, 1.0
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


class ModelScorer:
    """A registered version that answers as MLflow's server does.

    Cheap requests are answered in this process. Costly ones are answered in another, which has the model as well: what
    a decoder or parser may do there, crash included, holds nobody else up.

    Args:
        artifact: The folder of a registered version, whose files were verified; no code of it is loaded. It must stay
            until `close`.
        name: The model's registered name.
        version: Its version.
        limits: The limits of a request; by default, at least one image as pixels fits into it.
    """

    def __init__(self, artifact: Path, name: str, version: str, limits: Limits | None = None) -> None:
        self.name, self.version = name, version
        served = serving.serve(artifact / "data" / "model")
        if limits is None and isinstance(served, serving.ServedImages):
            limits = Limits(body=max(Limits.body, _BYTES_OF_A_NUMBER * served.card.channels * served.card.size**2))
        self.limits = limits or Limits()
        self._answer = _answering(artifact, served, name, version, _CHEAP)
        prepare = partial(_prepare, artifact, name, version, self.limits)
        self._process = WorkerProcess(prepare, ONE_THREAD)

    def start(self) -> None:
        """Start the process for costly requests."""
        self._process.submit(_ready).result()

    def answer(self, given: Any, kind: str) -> Response | None:
        """Answer a parsed request; None if it is a costly one."""
        try:
            return self._answer(given, kind)
        except CostlyError:
            return None

    def answer_costly(self, body: bytes, kind: str) -> Response:
        """Answer a request's body in the process for costly ones, which is killed if it takes too long."""
        try:
            future = self._process.submit(_answer_here, body, kind)
        except TrackdlError as error:
            log.error("costly requests: %s", error)
            raise busy("the process that answers costly requests cannot be started") from None
        try:
            content, status, media_type = future.result(self.limits.answer)
            return Response(content, status, media_type=media_type)
        except BrokenProcessPool:
            log.error("the process for costly requests ended in the middle of one (killed, or out of memory?)")
            raise busy("the process that answers costly requests was killed") from None
        except TimeoutError:
            self._process.close()
            raise

    def close(self) -> None:
        """End the process for costly requests."""
        self._process.close()


def _answering(
    artifact: Path, served: "serving.ServedImages | serving.ServedTable", name: str, version: str, most: float
) -> Callable[[Any, str], Response]:
    """Return a function that answers a parsed request, whose image files may cost `most`; else `CostlyError`."""
    meta = Model.load(str(artifact))
    if isinstance(served, serving.ServedImages):
        served = replace(served, most=most)
    strict = _Strict(model_meta=meta, model_impl=NamedModel(served, name, version, frame=False))
    schema = meta.signature.inputs if meta.signature else None
    invocations: Any = scoring_server.invocations  # MLflow gives it no types

    def answer(given: Any, kind: str) -> Response:
        try:
            done = invocations(
                _parse_csv(given, schema) if kind == CSV else _without_index(given), JSON, strict, schema
            )
        except MlflowException as error:
            if isinstance(error.__cause__, CostlyError):
                raise error.__cause__ from None
            return _refusal(error)
        except Exception:
            # The guard passes on well-formed requests only: MLflow's parser did not expect this one's shape.
            log.exception("MLflow's parser failed on a request")
            return http_error(400, "the request could not be read; is it in one of MLflow's forms?")
        return Response(done.response, done.status, media_type=done.mimetype)

    return answer


# In the process for costly requests: its function to answer them.
_answer: Callable[[bytes, str], Response]


def _prepare(artifact: Path, name: str, version: str, limits: Limits, parent: int) -> None:
    global _answer
    prepare_worker(parent)
    quiet_libraries()
    gc.disable()  # in the middle of a request it would look through all its lists, again and again
    freeze_imports()
    served = serving.serve(artifact / "data" / "model")
    answer = _answering(artifact, served, name, version, _COSTLY)

    def parse_and_answer(body: bytes, kind: str) -> Response:
        return answer(parse(body, kind, limits), kind)

    _answer = parse_and_answer


def _ready() -> None:
    pass


def _answer_here(body: bytes, kind: str) -> tuple[bytes, int, str | None]:
    try:
        response = _answer(body, kind)
    except CostlyError as error:
        response = http_error(413, str(error))
    except HTTPException as error:
        response = http_error(error.status_code, error.detail)
    gc.collect()
    return bytes(response.body), response.status_code, response.media_type


def _parse_csv(text: str, schema: Any) -> dict[str, Any]:
    """Return a CSV's cells in one of MLflow's JSON forms, as texts, which the model itself converts."""
    try:
        cells = read_cells(text.encode(), "the body")
    except InputError as error:
        raise Refusal(str(error)) from None
    names = called(cells.header, schema.input_names() if schema and schema.has_input_names() else [])
    return {"dataframe_split": {"columns": names, "data": cells.rows}}


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
