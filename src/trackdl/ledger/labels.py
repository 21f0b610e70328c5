"""Whether the true classes in a ledger's evidence are those of the data sets, and whether all examples are there."""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load

from trackdl.data.images import validation_split
from trackdl.errors import TrackdlError
from trackdl.ledger.finder import known_table
from trackdl.ledger.model import Ledger
from trackdl.ledger.sources import Sources
from trackdl.spec import ClassifySpec, Experiment, TableSpec

Labels = NDArray[Any]

# By the data's digest, MNIST's and Fashion-MNIST's: the number of training images, and the SHA-256 of the test images'
# labels, a byte each.
KNOWN = {
    "d0a3eec1f5a454401d758fdbf15b9b0163a7034963586d671960c180b97e2c1a": (
        60_000,
        "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    ),
    "5cf0562c46b89a77940b86f40a9a4325e7bed59d53ec555c4d14f0bed41ca53a": (
        60_000,
        "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    ),
}


def differences(ledger: Ledger, experiments: Mapping[str, Experiment], sources: Sources) -> list[str]:
    """Return, in words, where predictions have other true classes than their data set has, or not of all examples.

    A table's rows are compared with the table, if it is here. The test labels of MNIST and Fashion-MNIST are known by
    their digest. The validation splits are drawn again: they must have the size that the experiment says, and no image
    may have two labels, in whichever seeds' splits it is.
    """
    found: list[str] = []
    of_images: dict[str, Labels] = {}
    for run, facts in ledger.runs.items():
        experiment = experiments.get(facts.task)
        if isinstance(experiment, TableSpec):
            found += [f"run {run}, {words}" for words in _of_rows(run, facts.artifacts, experiment, sources)]
        if not isinstance(experiment, ClassifySpec):
            continue
        if facts.seed is None:
            found.append(f"run {run}: it does not say from which seed it was trained")
            continue
        name = facts.data_digest or ""
        train_size, test_digest = KNOWN.get(name, (0, ""))
        seed = experiment.nth(facts.seed - experiment.training.seed)
        for path in facts.artifacts:
            if not path.startswith("predictions/"):
                continue
            try:
                (content,) = sources.read(run, [path])
                targets: Labels = load(content)["targets"].astype(np.uint8)
            except (TrackdlError, KeyError, ValueError) as error:
                found.append(f"run {run}, {path}: {error}")
                continue
            if "/test" in path and test_digest:
                if hashlib.sha256(targets.tobytes()).hexdigest() != test_digest:
                    found.append(
                        f"run {run}, {path}: its true classes are not the labels of the data set's test images"
                    )
            elif "/val" in path and train_size and seed.data.validation:
                places = validation_split(train_size, seed.data.validation, seed.data.split_seed)[1].numpy()
                if len(places) != len(targets):
                    found.append(f"run {run}, {path}: has {len(targets)} examples; its split has {len(places)}")
                    continue
                known = of_images.setdefault(name, np.full(train_size, -1, np.int16))
                before = known[places]
                if ((before >= 0) & (before != targets)).any():
                    found.append(f"run {run}, {path}: gives images other true classes than other evidence does")
                known[places] = np.where(before >= 0, before, targets)
    return found


def _of_rows(run: str, paths: Iterable[str], experiment: TableSpec, sources: Sources) -> Iterator[str]:
    """Yield, in words, where predictions are not of the table's test rows, or of all rows, each as often."""
    table = known_table(experiment)
    if table is None:
        return
    for path in paths:
        if not path.endswith(".csv"):
            continue
        (content,) = sources.read(run, [path])
        rows = pd.read_csv(io.BytesIO(content))
        expected = table.test if "seed" in rows else np.arange(len(table.targets))
        parts = [part["row"] for _, part in rows.groupby("seed")] if "seed" in rows else [rows["row"]]
        for part in parts:
            places, counts = np.unique(part, return_counts=True)
            if not np.array_equal(places, np.sort(expected)) or len(set(counts)) > 1:
                yield f"{path}: is not of the rows that are tested, each as often"
                break
        else:
            if (rows["target"].to_numpy() != table.targets[rows["row"].to_numpy()]).any():
                yield f"{path}: its true classes are not those of the table"
