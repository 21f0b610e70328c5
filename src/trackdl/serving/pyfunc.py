"""A served model behind MLflow's interface: answers name the model, and refusals become 400 in MLflow's server."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from trackdl.errors import InputError
from trackdl.serving.images import ServedImages
from trackdl.serving.tables import ServedTable

# MLflow writes this file next to a model that it fetches from the registry.
_REGISTERED = "registered_model_meta"


class Refusal(MlflowException):
    """The refusal of a request, whose message cannot be changed.

    MLflow's server puts the whole request in front of an error's message, an image in base64 included.
    """

    def __init__(self, message: str) -> None:
        self._message = message
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        """What is wrong with the request."""
        return self._message

    @message.setter
    def message(self, text: str) -> None:
        pass


@dataclass(frozen=True)
class NamedModel:
    """A served model that adds its registered name and version to every answer."""

    served: ServedImages | ServedTable
    name: str | None  # None if it was not loaded from the registry
    version: str | None
    frame: bool = True  # else answers are a list of records, which a server writes as JSON in a third of the time

    def predict(
        self,
        model_input: Any,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> pd.DataFrame | list[dict[str, Any]]:
        """Return label, probabilities, model and version for each image or table row.

        Raises:
            Refusal: The input is wrong.
        """
        try:
            answers = self.served.records(model_input)
        except InputError as error:
            raise Refusal(str(error)) from error
        for answer in answers:
            answer["model"], answer["version"] = self.name, self.version
        return pd.DataFrame(answers) if self.frame else answers


def registered_as(artifact: Path) -> tuple[str | None, str | None]:
    """Return the registered name and version of a model's files; (None, None) if they are not from the registry."""
    try:
        meta = yaml.safe_load((artifact / _REGISTERED).read_text(encoding="utf-8"))
        return str(meta["model_name"]), str(meta["model_version"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None, None
