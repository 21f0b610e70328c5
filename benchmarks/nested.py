"""Heart disease with its settings chosen within each fold: nested cross-validation, beside scikit-learn's classifiers.

    python benchmarks/nested.py                  # about six minutes on two quiet cores
    python benchmarks/nested.py --json > nested.json

The protocol `improved` of `experiments/heart.yaml` was chosen by cross-validation over rows on which `trackdl heart`
also measures it. Here, in every fold, an inner cross-validation over the fold's training rows alone chooses by log loss
among `improved` and the ablation's steps; the choice is trained on these rows and predicts the held-out ones, which no
choice has seen. Nothing is tuned for the baselines. The inner folds, unlike the outer ones, may part rows that are
nearly the same: that can mislead the choice, not the score.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from trackdl import spec
from trackdl.data.tables.table import load_table
from trackdl.spec.table import TableSpec
from trackdl.system.console import print_table, progress
from trackdl.tabular.baselines import BaselineCandidate
from trackdl.tabular.comparison import Candidate, cross_validate, folds
from trackdl.tabular.protocols import NetworkCandidate, Predictions

INNER_FOLDS = 3
SCORES = {"accuracy": "accuracy", "auc": "AUC", "brier": "Brier", "log_loss": "log loss"}
CHOSEN = "chosen in each fold"


@dataclass(frozen=True)
class Chosen:
    """The candidate with the least log loss in an inner cross-validation of the training rows."""

    candidates: Mapping[str, Candidate]

    def choose(self, train: pd.DataFrame, seed: int) -> str:
        """Return the name of the best candidate for the rows `train`, the target last."""
        parts = folds(train.iloc[:, -1].to_numpy(), INNER_FOLDS, 1, seed)
        crossed = cross_validate(self.candidates, train, parts, seed)
        return min(crossed, key=lambda name: crossed[name].estimate("log_loss").mean)

    def fit_predict(self, train: pd.DataFrame, test: pd.DataFrame, seed: int) -> Predictions:
        """Train the candidate that `train` chooses, and predict `test`."""
        return self.candidates[self.choose(train, seed)].fit_predict(train, test, seed)


def measure(experiment: TableSpec) -> dict[str, Any]:
    """Return each model's scores, and the paired differences of the chosen network to every other model.

    A difference is that of the means over all folds, with its corrected interval and p-value (Nadeau and Bengio, 2003).
    """
    seed, network = experiment.training.seed, experiment.networks[0]
    table = load_table(experiment.data, seed)
    fixed = f"{experiment.registered}, as it is"
    protocols = {fixed: experiment.protocols[experiment.registered]} | experiment.variants()
    steps: dict[str, Candidate] = {
        name: NetworkCandidate(network, protocol, experiment.training, table.schema)
        for name, protocol in protocols.items()
    }
    models: dict[str, Candidate] = {CHOSEN: Chosen(steps), fixed: steps[fixed]}
    models |= {name: BaselineCandidate(name, table.schema) for name in experiment.baselines}
    parts = table.apart(folds(table.targets, experiment.folds, experiment.repeats, seed, table.schema.classes))
    with progress("fits", len(models) * len(parts)) as advance:
        crossed = cross_validate(models, table.frame, parts, seed, advance)
    return {
        "rows": len(table.frame),
        "folds": len(parts),
        "candidates": list(steps),
        "scores": {name: {score: item.estimate(score).mean for score in SCORES} for name, item in crossed.items()},
        "differences": {
            name: {score: asdict(crossed[CHOSEN].minus(item, score)) for score in SCORES}
            for name, item in crossed.items()
            if name != CHOSEN
        },
    }


def show(measured: dict[str, Any]) -> None:
    """Print the scores, with the p-value of each difference from the chosen network."""
    columns = ["model", *(part for title in SCORES.values() for part in (title, "p"))]
    rows = []
    for name, found in measured["scores"].items():
        against = measured["differences"].get(name)
        cells = [(f"{found[score]:.4f}", f"{against[score]['p']:.2f}" if against else "") for score in SCORES]
        rows.append([name, *(part for cell in cells for part in cell)])
    title = f"Nested cross-validation, {measured['folds']} folds of {measured['rows']} rows"
    print_table(f"{title}; p: the difference from the network that is {CHOSEN}", columns, rows)


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print a table or one JSON object."""
    root = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args(arguments)
    measured = measure(spec.load(root / "experiments" / "heart.yaml", TableSpec))
    if options.json:
        print(json.dumps(measured, indent=2))
    else:
        show(measured)


if __name__ == "__main__":
    main()
