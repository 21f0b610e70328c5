"""The model card of a registered version: `README.md` beside its weights, in Hugging Face's format.

Its YAML head has the results as `model-index`. Every number is the run's; what nobody knows, as a licence, is left out.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from torch import nn

from trackdl import serving, spec
from trackdl.analysis.stats import exact_interval
from trackdl.errors import InputError
from trackdl.networks.build import count_parameters
from trackdl.spec import TrainedSpec
from trackdl.tracking import pages, runs
from trackdl.tracking.registry.files import find, verified
from trackdl.tracking.runs import Run

if TYPE_CHECKING:
    from trackdl.tracking.registry.register import Score

FILE = "README.md"

# The run's tags that say how it was made.
_MADE = {
    "mlflow.source.git.commit": "commit",
    "trackdl.uncommitted": "uncommitted changes",
    "trackdl.spec_digest": "experiment's SHA-256",
    "trackdl.data_digest": "data's SHA-256",
    "trackdl.code_digest": "training code's SHA-256",
    "trackdl.resumed_from": "resumed from run",
    "trackdl.found_by": "settings found by",
    "trackdl.device": "device",
    "trackdl.precision": "precision",
    "trackdl.threads": "threads",
    "trackdl.version": "trackdl",
    "trackdl.python": "Python",
}
_SYNTHETIC = "It was trained and scored on synthetic data, so its scores say nothing about real ones. "
_LIMITS = (
    "It is made to reproduce the report's experiment, on inputs like those that it was scored on; nothing was measured"
    " on others. It always answers with one of its classes, also for an input that belongs to none."
)


@dataclass(frozen=True)
class Result:
    """An accuracy as the run measured it.

    Attributes:
        metric: The run's name of it.
        value: The accuracy.
        interval: Its 95 % interval.
        over: What kind of interval that is, and over how many examples or folds.
        dataset: The data set's name in the run.
        split: The part of the data, e.g. "test".
        role: A sentence: whether these examples chose the weights.
    """

    metric: str
    value: float
    interval: Sequence[float]
    over: str
    dataset: str
    split: str
    role: str


def of_examples(metric: str, right: int, total: int, dataset: str, split: str, role: str) -> Result:
    """Return the share of right answers with its exact interval; the others are as in `Result`."""
    over = f"exact binomial, over {total:,} examples, of which {right:,} were classified right"
    return Result(metric, right / total, exact_interval(right, total), over, dataset, split, role)


@dataclass(frozen=True)
class About:
    """What a version's card says besides what its run and its files do: the experiment, its data and its results."""

    experiment: TrainedSpec
    data: str
    results: Sequence[Result]


def write(
    name: str,
    about: About,
    score: "Score",
    own_alias: str | None,
    run: Run,
    model: nn.Module,
    card: serving.Card,
    lineage: Mapping[str, Any],
    pins: Sequence[str],
) -> str:
    """Return the model card of a version that is about to be registered.

    Args:
        name: The registered model's.
        about: What was trained, and its results.
        score: What decides whether it becomes champion.
        own_alias: Its alias, if it does not compete.
        run: The run that it is logged with.
        model: The network.
        card: As it is served.
        lineage: The version's further tags.
        pins: The libraries with their versions.
    """
    alias = own_alias or "champion"
    decides = f"Of several versions, the one with the best {_code(score.metric)} becomes champion, which flatters it."
    info = run.info.data
    trained = "trackdl.spec_digest" in info.tags
    images, report = isinstance(card, serving.ImageCard), spec.report()
    task = "image-classification" if images else "tabular-classification"
    made = [("run", run.id), ("seed", info.params.get("training.seed"))]
    made += [(words, info.tags.get(key)) for key, words in _MADE.items()]
    made += [(key.removeprefix("trackdl.").replace("_", " "), value) for key, value in lineage.items()]
    command = f"{_code(runs.command(run.id))} trains it again, from the file that the run keeps."
    quoted, uri = shlex.quote(name), shlex.quote(f"models:/{name}@{alias}")
    asked = "" if alias == "champion" else f" --alias {alias}"
    body = f"""
# {_plain(name)}

{_what(about, model, card, trained=trained)}

## Results

{"".join(map(_sentence, about.results))}
The intervals are of this one training: another seed gives other weights and other scores. \
{"It does not compete with other versions." if own_alias else decides}

## Use and limits

{_SYNTHETIC if score.synthetic else ""}{_LIMITS}

It takes {_inputs(card)}.

## How to load it

Where it is registered, with the version that holds the alias {_code(alias)}; `--version N` and `models:/NAME/N` name \
another:

    trackdl predict {quoted} FILE{asked}
    trackdl serve {quoted}{asked}
    mlflow models serve -m {uri} --env-manager local -p 5001

From the folder of this file, with trackdl installed; the weights are compared with their SHA-256:

    from pathlib import Path
    from trackdl.serving import read_model
    network, card = read_model(Path("."))

## How it was made

{command if trained else "Its run tested it and registered it."}

{"".join(f"- {_plain(key)}: {_code(str(value))}{chr(10)}" for key, value in made if value not in (None, ""))}\
- libraries: {_listed(pins)}
"""
    head = {
        "library_name": "trackdl",
        "pipeline_tag": task,
        "tags": ["trackdl", "mlflow", report.slug],
        "metrics": ["accuracy"],
        "model-index": [{"name": name, "results": [_entry(task, about.data, item) for item in about.results]}],
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=120)}---\n{body}"


def _what(about: About, model: nn.Module, card: serving.Card, *, trained: bool) -> str:
    """Return what a model does, and which experiment it belongs to."""
    report, experiment = spec.report(), about.experiment
    link = re.fullmatch(r"https?://[^\s<>]+", report.source)
    source = f", {f'<{link[0]}>' if link else _plain(report.source)}" if report.source else ""
    return f"""\
This model classifies {"images" if isinstance(card, serving.ImageCard) else "rows of a table"} into \
{len(card.classes)} classes: {_listed(card.classes)}. It is the network {_code(card.network)} with \
{count_parameters(model):,} parameters\
{f", trained on the data {_code(about.data)}" if trained else "; trackdl did not train it, and only tested it"}.
It belongs to the experiment {_code(experiment.name)} ({_plain(experiment.label)}) of the report \
{_plain(report.by)}{source}."""


def note(name: str, about: About, run: Run, model: nn.Module, card: serving.Card, lineage: Mapping[str, Any]) -> str:
    """Return a version's description on MLflow's pages: what it is, its results, where it is from, how it is used.

    The arguments are as in `write`.
    """
    info = run.info
    page = pages.run_page("", info.info.experiment_id, run.id)
    made = f"Made by the run [{_plain(str(info.info.run_name))}]({page})"
    if "trackdl.source_model" in lineage:
        source, version = str(lineage["trackdl.source_model"]), lineage["trackdl.source_version"]
        made += f", from [{_plain(source)} version {version}]({pages.version_page(source, version)})"
    return f"""\
{_what(about, model, card, trained="trackdl.spec_digest" in info.data.tags)}

{"".join(map(_sentence, about.results))}
{made}.

`trackdl serve {shlex.quote(name)}` and `trackdl predict {shlex.quote(name)} FILE` use the champion; `--version` \
chooses another version. `trackdl card {shlex.quote(name)}` prints the model card.
"""


def _entry(task: str, data: str, result: Result) -> dict[str, Any]:
    return {
        "task": {"type": task, "name": task.replace("-", " ").capitalize()},
        "dataset": {"type": data, "name": result.dataset, "split": result.split},
        "metrics": [{"type": "accuracy", "name": result.metric, "value": float(result.value)}],
    }


def _sentence(result: Result) -> str:
    low, high = result.interval
    return (
        f"- {_code(result.metric)} is {result.value:.4f} on {_plain(result.dataset)}, split {_plain(result.split)};"
        f" 95 % interval {low:.4f} to {high:.4f} ({result.over}). {result.role}\n"
    )


def _inputs(card: serving.Card) -> str:
    if isinstance(card, serving.ImageCard):
        pixels = f"{'colour' if card.colour else 'grey'} pixels from 0 to 255, {card.size}×{card.size}"
        return pixels + (f", or image files, preprocessed as {_code(card.preprocessing)}" if card.preprocessing else "")
    rows = "; ".join(f"{_code(column.name)}: {_plain(column.expected)}" for column in card.columns)
    return f"rows with the columns {rows}"


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(map(_code, texts))


def _code(text: str) -> str:
    """Return a text of anybody's as Markdown's code, which nothing in it ends."""
    line = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if "`" in line else f"`{line}`"


def _plain(text: str) -> str:
    """Return a text of anybody's as one line of Markdown without markup."""
    return re.sub(r"([\\`*_\[\]<>#|&])", r"\\\1", " ".join(text.split()))


def read(uri: str) -> str:
    """Return the model card of the version at `models:/NAME@ALIAS` or `models:/NAME/VERSION`, its files verified.

    Raises:
        InputError: There is no such version, or it was registered before versions had cards.
        TrackdlError: Its files are not those that were registered.
    """
    found = find(uri)
    with verified(found) as folder:
        path = folder / "data" / "model" / FILE
        if not path.is_file():
            raise InputError(f"{uri}: version {found.version} was registered without a card; newer ones have one")
        return path.read_text(encoding="utf-8")
