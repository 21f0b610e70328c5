"""Which way of transferring reads letters of writers that it has not learnt from: a table, without a run or a model.

    python benchmarks/letters.py letters && python benchmarks/letters.py unseen --writers 10 14
    python benchmarks/transfer.py learn letters --test unseen             # 24 letters by 10 writers, tested on 4 others
    python benchmarks/transfer.py learn greek_train --test letters        # real letters, tested on invented writers
    python benchmarks/transfer.py held-out greek_train                    # each letter held out once (leave-one-out)

Each line is a change to the protocol BASE. Only writers of `benchmarks/letters.py`, or letters held out, choose among
them. The source is the registry's models:/mnist-cnn@champion; classes that only the test folder has are left out.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measuring import columns, say

from trackdl import spec
from trackdl.data.greek.letters import Letters, load_letters
from trackdl.spec import TransferSpec
from trackdl.spec.keys import with_keys
from trackdl.system.paths import project_root
from trackdl.tasks import transfer
from trackdl.tracking.registry.register import fetch_model
from trackdl.training.held_out import folds_for, hold_out_each, splits
from trackdl.training.trainer import Examples

WARP = {"rotate": 10.0, "scale": 0.1, "elastic": 1.0}
BASE: dict[str, Any] = {"data.preprocessing": "mnist", "training.epochs": 40}
FEW: dict[str, dict[str, Any]] = {
    "base": {},
    "report's preprocessing": {"data.preprocessing": "report"},
    "rotate 10": {"training.augmentation": {"rotate": 10.0}},
    "scale 0.1": {"training.augmentation": {"scale": 0.1}},
    "shift 1": {"training.augmentation": {"shift": 1}},
    "stroke 0.5": {"training.augmentation": {"stroke": 0.5}},
    "elastic 1": {"training.augmentation": {"elastic": 1.0}},
    "elastic 2": {"training.augmentation": {"elastic": 2.0}},
    "warp": {"training.augmentation": WARP},
}
ADAM = {"name": "adam", "lr": 0.001}
LEARN = FEW | {
    "convolutions": {"frozen": "convolutions"},
    "convolutions, warp": {"frozen": "convolutions", "training.augmentation": WARP},
    "nothing": {"frozen": "nothing"},
    "nothing, warp": {"frozen": "nothing", "training.augmentation": WARP},
    "Adam": {"training.optimizer": ADAM},
    "Adam, convolutions, warp": {"training.optimizer": ADAM, "frozen": "convolutions", "training.augmentation": WARP},
    "Adam, nothing": {"training.optimizer": ADAM, "frozen": "nothing"},
    "Adam, nothing, warp": {"training.optimizer": ADAM, "frozen": "nothing", "training.augmentation": WARP},
    "Adam, nothing, warp, no dropout": {
        "training.optimizer": ADAM, "frozen": "nothing", "training.augmentation": WARP, "dropout_maps": 0.0},
    "Adam, nothing, more warp": {
        "training.optimizer": ADAM, "frozen": "nothing",
        "training.augmentation": {"rotate": 15.0, "scale": 0.2, "elastic": 2.0, "shift": 1}},
}  # fmt: skip


def main() -> None:
    """Print the table that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("how", choices=["learn", "held-out"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=5)
    parser.add_argument("--only", nargs="+", help="some lines")
    given = parser.parse_args()
    torch.set_num_threads(1)
    fetched = fetch_model("models:/mnist-cnn@champion")
    source = transfer.Source(fetched, fetched.card)
    start = spec.load(project_root() / "experiments" / "transfer.yaml", TransferSpec, BASE)
    start = with_keys(start, {"training.epochs": given.epochs, "training.batch_size": given.batch_size})
    changes = {name: change for name, change in (LEARN if given.how == "learn" else FEW).items()
               if not given.only or name in given.only}  # fmt: skip
    rows = [["protocol", "right, by seed", "of", "mean"]]
    kept: dict[str, list[Letters]] = {}
    for name, change in changes.items():
        experiment = with_keys(start, change)
        how = str(experiment.data.preprocessing)
        if how not in kept:
            prepare = transfer._prepare(source.card, experiment)
            kept[how] = [load_letters(folder, prepare=prepare) for folder in (given.folder, given.test) if folder]
        counts, of = [], 0
        for seed in range(given.seeds):
            right, of = count(experiment.nth(seed), source, kept[how])
            counts.append(right)
        rows.append([name, " ".join(map(str, counts)), str(of), f"{sum(counts) / of / len(counts):.1%}"])
        say("  ".join(rows[-1]))
    print("\n".join(columns(rows, left=1)))


def count(experiment: TransferSpec, source: transfer.Source, letters: list[Letters]) -> tuple[int, int]:
    """Return how many letters are right, of how many: of those of the second folder, or each held out."""
    learn = Examples(source.card.normalise(letters[0].inputs), letters[0].labels)
    trainer = transfer._trainer(experiment, source, len(letters[0].classes))
    if len(letters) == 1:
        classes = len(letters[0].classes)
        network = partial(transfer._network, source, classes, experiment.frozen, experiment.dropout_maps)
        parts = splits(learn.targets, folds_for(learn.targets), experiment.training.seed)
        return hold_out_each(network, experiment.training, trainer.loss, learn, parts).correct, len(learn)
    for _ in trainer.fit(learn, experiment.training.epochs):
        pass
    known = {name: place for place, name in enumerate(letters[0].classes)}
    test = [place for place, label in enumerate(letters[1].labels.tolist()) if letters[1].classes[label] in known]
    labels = torch.tensor([known[letters[1].classes[int(letters[1].labels[place])]] for place in test])
    found = trainer.evaluate(Examples(source.card.normalise(letters[1].inputs[test]), labels))
    return found.correct, found.total


if __name__ == "__main__":
    main()
