"""A served model as MLflow asks it: answers that name the model, and refusals that MLflow's server answers with 400."""

from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from trackdl.errors import InputError
from trackdl.serving.pictures import ServedPictures
from trackdl.serving.tables import ServedTable

__all__ = ["Named", "Refusal", "registered_as"]

# What MLflow writes beside a model that it fetches from the registry.
_FETCHED = "registered_model_meta"


class Refusal(MlflowException):
    """What was asked is wrong, said in a message that stays as it is.

    MLflow's server puts the whole request before a refusal's message; a picture in base64 would come back with it.
    """

    def __init__(self, message: str) -> None:
        self._said = message
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        """What is wrong."""
        return self._said

    @message.setter
    def message(self, text: str) -> None:
        pass


class Named:
    """A served model that adds its registered name and version to every answer.

    Args:
        served: The model.
        name: Its name in the registry; None where it was not loaded from there.
        version: Its version there.
        frame: Answer with a frame; else with a list of records, which a server writes as JSON three times as soon.
    """

    def __init__(
        self, served: ServedPictures | ServedTable, name: str | None, version: str | None, *, frame: bool = True
    ) -> None:
        self.served, self.name, self.version, self.frame = served, name, version, frame

    def predict(
        self,
        model_input: Any,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> pd.DataFrame | list[dict[str, Any]]:
        """Answer MLflow: label, probabilities, model and version of each picture or table row.

        Raises:
            Refusal: The input is wrong.
        """
        try:
            answers = self.served.records(model_input)
        except InputError as error:
            raise Refusal(str(error)) from None
        for answer in answers:
            answer["model"], answer["version"] = self.name, self.version
        return pd.DataFrame(answers) if self.frame else answers


def registered_as(artifact: Path) -> tuple[str | None, str | None]:
    """Return the name and version that MLflow fetched a model's files by; None twice where it was not the registry."""
    try:
        said = yaml.safe_load((artifact / _FETCHED).read_text(encoding="utf-8"))
        return str(said["model_name"]), str(said["model_version"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None, None
