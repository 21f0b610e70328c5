"""What MLflow's pages show of trackdl: the experiment's kind, description and list of runs; and their addresses."""

import json
from collections.abc import Iterable
from urllib.parse import quote, urlencode, urlsplit

from trackdl.system.paths import UI

KIND = "mlflow.experimentKind"
NOTE = "mlflow.note.content"
PARENT = "mlflow.parentRunId"
TABLES = "mlflow.loggedArtifacts"
SETTLED = "settled"
# The metrics that a person compares between runs, and the settings that most often differ.
HEADLINES = (
    "test_accuracy",
    "best_test_accuracy",
    "best_val_accuracy",
    "val_accuracy",
    "cv_accuracy",
    SETTLED,
)
_COLUMNS = [
    *(f"metrics.`{name}`" for name in HEADLINES),
    *(f"params.`training.{name}`" for name in ("epochs", "optimizer.lr", "seed")),
    "attributes.`Models`",
]
_NAME = "attributes.`Run Name`"
_VIEW = "trackdl"  # the name of the list's columns in its address
_DESCRIPTION = """\
Each row is one task of a report; the arrow in front of a row opens its seeds, protocols or trials.

- `test_accuracy`: on the test images or rows, after the last epoch at which they were used
- `best_val_accuracy`, `best_test_accuracy`: of the epoch with the best validation accuracy, whose weights were kept
- `val_accuracy`: on examples held out from training; `cv_accuracy`: the same, cross-validated
- `settled`: the share of the report's numbers that are reproduced, or explained by a fault of the report

A run's page begins with its result and the command that repeats it; its pictures and tables are among its artifacts.
"""
# The tags of the experiment that runs go to, unless it has them: a person may change them.
EXPERIMENT = {
    KIND: "custom_model_development",
    f"mlflow.sharedViewState.{_VIEW}": json.dumps(
        {
            "selectedColumns": _COLUMNS,
            "columnOrder": ["1", _NAME, "runDateAndNestInfo", "duration", *_COLUMNS],  # widths count only with an order
            "columnWidths": {_NAME: 330},
        }
    ),
    NOTE: _DESCRIPTION,
}


def headlines_first(metrics: Iterable[str]) -> list[str]:
    """Return names of metrics: those that a person compares, then other accuracies, then the rest, in their order.

    MLflow's comparison of runs begins with the metric that was logged first.
    """
    return sorted(metrics, key=lambda name: (name not in HEADLINES, "accuracy" not in name))


def base(uri: str) -> str:
    """Return the address of MLflow's pages for a tracking store: the server itself, else `trackdl ui`'s."""
    if not uri.startswith("http"):
        return UI
    web = urlsplit(uri.rstrip("/"))
    return web._replace(netloc=web.netloc.rpartition("@")[2]).geturl()  # no user, no password


def run_list(address: str, experiment_id: str) -> str:
    """Return the address of an experiment's list of runs, with the columns that matter."""
    return f"{address}/#/experiments/{experiment_id}/runs?viewStateShareKey={_VIEW}&workflowType=machine_learning"


def version_page(model: str, version: object) -> str:
    """Return a link between MLflow's own pages to a version of a registered model."""
    return f"/#/models/{quote(model)}/versions/{version}"


def run_page(address: str, experiment_id: str, run_id: str) -> str:
    """Return the address of a run's page; with an empty `address`, a link between MLflow's own pages."""
    return f"{address}/#/experiments/{experiment_id}/runs/{run_id}"


def artifact(run_id: str, path: str) -> str:
    """Return the address of one of a run's artifacts, relative to the site of MLflow's pages."""
    return f"get-artifact?{urlencode({'path': path, 'run_uuid': run_id})}"
