"""`trackdl examine`: what a registered network does inside, and where it is wrong, in a run and on a page."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from trackdl import serving
from trackdl.analysis.answers import judge
from trackdl.apps import html_page
from trackdl.apps.learnt import Images, batches, fractions, nearest, read
from trackdl.apps.predict import load
from trackdl.data.preprocessing.image_files import read_image
from trackdl.data.tables.table import Table
from trackdl.errors import InputError, TrackdlError, one_line
from trackdl.networks.build import count_parameters
from trackdl.plots import answers as plots_answers
from trackdl.plots import insides as plots
from trackdl.plots.common import image_grid
from trackdl.serving import ServedImages, ServedTable, as_pixels
from trackdl.serving.insides import look_inside, trace
from trackdl.system.console import print_table, say, say_json
from trackdl.system.paths import project_root
from trackdl.tracking import runs

_COMMAND = "examine"
_FIRST, _MISTAKES, _NEIGHBOURS = 10, 12, 8  # examples that are shown
_EMBEDDED, _TSNE_STEPS = 1_000, 500  # test images that t-SNE places, which takes seconds
_ROWS, _REPEATS, _DEPENDENCES = 1_000, 10, 6  # of a table: rows, shuffles of each column, columns drawn
_FILTERS, _MAPS, _LAYERS, _VALUES = 24, 16, 12, 256  # drawn
_SCORES = {"value": "", "low": "_low", "high": "_high"}  # of an accuracy, and the ends of the metrics' names
_CHANGE_NOTHING = (nn.Dropout, nn.Dropout2d, nn.Flatten)  # layers whose maps are those before


@dataclass
class Examination:
    """What was found of a version: `numbers` for programs, `parts` for people (examine.html.j2 explains each by name).

    `notes` say what could not be shown.
    """

    name: str
    version: str
    network: str
    numbers: dict[str, Any]
    parts: dict[str, Figure | pd.DataFrame] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unseen: bool = True  # whether its accuracy is on other examples than those that it learnt from

    @property
    def title(self) -> str:
        """The version in words."""
        return f"{self.name} version {self.version}"

    @property
    def accuracy(self) -> str:
        """The accuracy in words, or an empty text."""
        if not (found := self.numbers.get("accuracy")):
            return ""
        share, low, high = found["value"], found["low"], found["high"]
        right = f"{found['right']:,} of {found['total']:,} {found['of']} are right"
        return f"{right}: {share:.2%}, 95 % interval {low:.2%} to {high:.2%}"


def examine(uri: str, file: str | None) -> Examination:
    """Look inside a registered network.

    Args:
        uri: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, or `runs:/ID` of the run that registered it.
        file: An image to look at; None is the first test example.

    Raises:
        InputError: There is no such model, or the image cannot be used by it.
        TrackdlError: The version's files are not those that were registered.
    """
    found = load(uri)
    served = found.served
    pixels = _pixels(served, found.name, file) if file else None
    numbers = {"model": found.name, "version": found.version, "parameters": count_parameters(served.model)}
    made = Examination(found.name, found.version, str(served.model), numbers)
    _add_layers(made, served)
    data: Images | Table | None = None
    try:
        data = read(found.run_id, served)
    except (TrackdlError, OSError) as error:
        made.notes.append(f"The data that it was trained on cannot be shown: {one_line(error, 400)}.")
    if isinstance(served, ServedImages):
        _of_images(made, served, data if isinstance(data, Images) else None, pixels, file)
    elif isinstance(data, Table):
        _of_table(made, served, data)
    return made


def _pixels(served: ServedImages | ServedTable, name: str, file: str) -> Tensor:
    if isinstance(served, ServedTable):
        raise InputError(f"{name} is a model of table rows: --image is for models of images")
    image = read_image(Path(file), file, colour=served.card.colour)
    try:
        return served.to_input(image)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def _add_layers(made: Examination, served: ServedImages | ServedTable) -> None:
    model, card = served.model, served.card
    if isinstance(members := getattr(model, "members", None), nn.ModuleList):
        model = members[0]
    if members and len(members) > 1:
        made.notes.append(f"It is the mean of {len(members)} networks with the same layers; those of one are shown.")
    width = (card.channels, card.size, card.size) if isinstance(card, serving.ImageCard) else (card.preparation.width,)
    with torch.inference_mode():
        steps, _ = trace(model, torch.zeros(1, *width))
    if (hidden := count_parameters(model) - sum(step.parameters for step in steps)) > 0:
        made.notes.append(f"{hidden:,} of its parameters are in layers that cannot be listed, such as attention.")
    made.numbers["layers"] = [
        {
            "name": step.name,
            "layer": str(step.layer),
            "takes": list(step.inputs.shape[1:]),
            "gives": list(step.outputs.shape[1:]),
            "parameters": step.parameters,
        }
        for step in steps
    ]
    table = pd.DataFrame(made.numbers["layers"])
    for column in ("takes", "gives"):
        table[column] = table[column].map(plots.shape_words)
    made.parts["layers"] = table
    boxes = [("input", width, 0), *((step.title, tuple(step.outputs.shape[1:]), step.parameters) for step in steps)]
    made.parts["network"] = plots.network_diagram(boxes, made.title)


def _judge(
    made: Examination, probabilities: NDArray[Any], labels: NDArray[Any], classes: Sequence[str], tested: str
) -> None:
    """Add the accuracy on examples, the confusion matrix and each class's scores; `tested` says which examples."""
    predicted = probabilities.argmax(axis=1)
    one = judge([classes[label] for label in labels], [classes[label] for label in predicted], classes)
    counts, right, total = one.confusion, one.right, one.examples
    sums = (counts.sum(axis=0) + counts.sum(axis=1)).tolist()
    hits = counts.diagonal().tolist()
    harmonic = [2 * hit / both if both else None for hit, both in zip(hits, sums, strict=True)]
    by_class = pd.DataFrame(
        {
            "class": list(classes),
            "precision": one.precision,
            "recall": one.recall,
            "F1": harmonic,
            "examples": counts.sum(axis=1),
        }
    )
    made.numbers |= {
        "accuracy": {
            "right": right,
            "total": total,
            "value": right / total,
            "low": one.low,
            "high": one.high,
            "of": tested,
        },
        "confusion": counts.tolist(),
        "per_class": _records(by_class),
    }
    made.parts["confusion"] = plots_answers.confusion(counts, classes, f"{right:,} of {total:,} right")
    made.parts["per_class"] = by_class


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(table.to_json(orient="records"))  # without NaN
    return found


def _of_images(
    made: Examination, served: ServedImages, data: Images | None, pixels: Tensor | None, file: str | None
) -> None:
    if data:
        outputs = torch.cat([each for _, each in batches(served, data.tested)])
        probabilities = outputs.double().softmax(dim=1).numpy()
        made.unseen = data.unseen
        if data.synthetic:
            made.notes.append("Its letters are SYNTHETIC: drawn from fonts, because the report's are not here.")
        if not data.unseen:
            made.notes.append("It has no test images; answers for images that it learnt from look better than it is.")
        tested = "test images" if data.unseen else "images that it learnt from"
        _judge(made, probabilities, data.labels.numpy(), served.card.classes, tested)
        _add_examples(made, served.card.classes, data, outputs, probabilities)
        pixels = fractions(data.tested[:1])[0] if pixels is None else pixels
    if pixels is None:
        made.notes.append("So there is no image to look at: --image FILE gives one.")
        return
    truth = served.card.classes[int(data.labels[0])] if data and not file else None
    _add_image(made, served, pixels, Path(file).name if file else "the first example", truth)
    if data:
        _add_neighbours(made, served, data, pixels, itself=not file and not data.unseen)
        _add_embedding(made, served, data)


def _add_examples(
    made: Examination, classes: Sequence[str], data: Images, outputs: Tensor, probabilities: NDArray[Any]
) -> None:
    """Add the first examples, and the mistakes that the network was surest of and least sure of."""
    predicted, labels, sure = probabilities.argmax(axis=1), data.labels.numpy(), probabilities.max(axis=1)

    def rows(places: Sequence[int] | NDArray[Any]) -> list[dict[str, Any]]:
        words = [(classes[labels[place]], classes[predicted[place]], float(sure[place])) for place in places]
        return [
            {"example": int(place) + 1, "truth": true, "answer": answer, "probability": share}
            for place, (true, answer, share) in zip(places, words, strict=True)
        ]

    first = rows(range(min(_FIRST, len(labels))))
    captions = [f"{row['answer']}\n(is {row['truth']})" for row in first]
    wrong = np.flatnonzero(predicted != labels)
    pictures = as_pixels(fractions(data.tested[: len(first)]))
    made.parts["first"] = image_grid(pictures, captions, "The first examples", min(5, len(first)), wrong)
    for row, values in zip(first, outputs.tolist(), strict=False):
        row |= {f"output {name}": round(value, 2) + 0.0 for name, value in zip(classes, values, strict=True)}
    made.numbers["first"], made.parts["first_outputs"] = first, pd.DataFrame(first).drop(columns="probability")
    doubt = -(probabilities * np.log(np.maximum(probabilities, 1e-300))).sum(axis=1)
    for kind, order, title in (("worst", sure, "Sure, and wrong"), ("uncertain", doubt, "Unsure, and wrong")):
        places = wrong[np.argsort(-order[wrong], kind="stable")][:_MISTAKES]
        made.numbers[kind] = rows(places)
        said = [(row["truth"], row["answer"], row["probability"]) for row in made.numbers[kind]]
        if said:
            pictures = as_pixels(fractions(data.tested[places]))
            made.parts[kind] = plots_answers.mistakes(pictures, said, title)
    if not len(wrong):
        made.notes.append("It makes no mistake with them, so none is shown.")


def _add_image(made: Examination, served: ServedImages, pixels: Tensor, name: str, truth: str | None) -> None:
    """Add what the filters and the layers make of an image, and which of its pixels decided."""
    with torch.inference_mode():
        steps, outputs = trace(served.model, served.card.normalise(pixels.unsqueeze(0)))
    inside, probabilities = look_inside(served, pixels), outputs[0].double().softmax(dim=0)
    label = served.card.classes[int(probabilities.argmax())]
    made.numbers["image"] = {
        "image": name,
        "truth": truth,
        "answer": label,
        "runner_up": inside.runner_up,
        "probabilities": dict(zip(served.card.classes, probabilities.tolist(), strict=True)),
    }
    picture, title = as_pixels(pixels.unsqueeze(0))[0], f"{label} or {inside.runner_up}?"
    made.parts["deciding_pixels"] = plots.deciding_pixels(picture, inside.shares.numpy(), title)
    for step in steps:
        if isinstance(step.layer, nn.Conv2d):
            weights, maps = step.layer.weight.detach()[:_FILTERS].numpy(), step.outputs[0, :_FILTERS].numpy()
            title = f"{step.name}: {len(maps)} of its {step.layer.out_channels} filters"
            made.parts["filters"] = plots.filters(weights, maps, title)
            break
    else:
        made.notes.append("It has no convolution, so there are no filters to show.")
    shown, layers = [], [step for step in steps if not isinstance(step.layer, _CHANGE_NOTHING)]
    for step in layers[:_LAYERS]:
        each = step.outputs[0]
        if each.ndim != 3 or isinstance(step.layer, nn.Linear | nn.LayerNorm):
            each = each.flatten()  # no maps: the numbers of tokens, say
        most = _MAPS if each.ndim == 3 else _VALUES
        few = f", the first {most}" if len(each) > most else ""
        shown.append((f"{step.title}, {plots.shape_words(each.shape)}{few}", each[:most].numpy()))
    made.parts["feature_maps"] = plots.feature_maps(shown, f"{len(shown)} of {len(layers)} layers")


def _add_neighbours(made: Examination, served: ServedImages, data: Images, pixels: Tensor, *, itself: bool) -> None:
    """Add the training images that the network sees as most like an image; `itself` is the first of them."""
    (mine, _), *_ = batches(served, pixels.unsqueeze(0))
    near, places = nearest(mine, (each for each, _ in batches(served, data.learnt)), _NEIGHBOURS, itself=itself)
    labels = [served.card.classes[label] for label in data.learnt_labels[places]]
    made.numbers["image"]["neighbours"] = [
        {"training_image": place + 1, "class": label, "distance": distance}
        for place, label, distance in zip(places.tolist(), labels, near.tolist(), strict=True)
    ]
    pictures = as_pixels(torch.cat([pixels.unsqueeze(0), fractions(data.learnt[places])]))
    captions = ["the image", *(f"{label}, {distance:.2g}" for label, distance in zip(labels, near, strict=True))]
    title = "The image, and the training images that are most like it"
    made.parts["neighbours"] = image_grid(pictures, captions, title, min(len(pictures), 5))


def _add_embedding(made: Examination, served: ServedImages, data: Images) -> None:
    """Add test images as points, placed by what the head takes of them."""
    places = torch.randperm(len(data.labels), generator=torch.Generator().manual_seed(0))[:_EMBEDDED]
    taken = torch.cat([each for each, _ in batches(served, data.tested[places])]).numpy()
    if min(taken.shape) < 3 or not np.ptp(taken, axis=0).any():
        made.notes.append("There are too few images, or too few values before the head, to place the images by them.")
        return
    near = min(30.0, (len(taken) - 1) / 3)
    with threadpool_limits(1):  # several threads for so few points mostly wait for each other
        tsne = TSNE(perplexity=near, max_iter=_TSNE_STEPS, init="pca", random_state=0).fit_transform(taken)
    found = {"PCA": PCA(2, random_state=0).fit_transform(taken), "t-SNE": tsne}
    title = f"{len(taken):,} images by what the head takes of them"
    made.parts["embedding"] = plots.scatter(found, data.labels[places].numpy(), served.card.classes, title)


class _Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A registered model of a table as scikit-learn's inspection takes it; it has been fitted."""

    def __init__(self, served: ServedTable) -> None:
        self.served = served
        self.classes_ = np.arange(len(served.card.classes))

    def fit(self, _rows: Any, _labels: Any) -> Self:
        return self

    def predict_proba(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self.served.probabilities(rows).numpy()
        return found

    def predict(self, rows: pd.DataFrame) -> NDArray[Any]:
        found: NDArray[Any] = self.predict_proba(rows).argmax(axis=1)
        return found


def _of_table(made: Examination, served: ServedTable, data: Table) -> None:
    columns, classes, model = served.card.columns, served.card.classes, _Classifier(served)
    rows, labels = data.test_rows[[column.name for column in columns]], data.targets[data.test]
    # scikit-learn takes no whole numbers for what can be in between.
    rows = rows.astype({column.name: float for column in columns if not column.categories})
    _judge(made, model.predict_proba(rows), labels, classes, "test rows")
    some = np.random.default_rng(0).permutation(len(rows))[:_ROWS]
    rows, labels = rows.iloc[some], labels[some]
    repeats = max(2, min(_REPEATS, 500 // len(columns)))
    found = permutation_importance(model, rows, labels, n_repeats=repeats, random_state=0)
    order = np.argsort(-found.importances_mean, kind="stable")
    names = [columns[place].name for place in order]
    means, spreads = found.importances_mean[order], found.importances_std[order]
    table = pd.DataFrame({"column": names, "accuracy lost": means, "standard deviation": spreads})
    made.numbers["importance"], made.parts["importances"] = _records(table), table
    title = f"{made.title}: {repeats} shuffles of each column"
    made.parts["importance"] = plots.importances(names, means, spreads, title)
    whole, categories = rows.dropna(), [column.name for column in columns if column.categories]
    if whole.empty:
        made.notes.append("Each test row lacks some value, so the effect of single columns is not shown.")
        return
    of = 1 if len(classes) == 2 else int(np.bincount(labels).argmax())
    shown = {}
    for name in names[:_DEPENDENCES]:
        how: dict[str, Any] = {"categorical_features": categories or None, "grid_resolution": 20}
        try:
            one = partial_dependence(model, whole, [name], **how)
        except ValueError as error:  # nearly all rows have the same value
            made.notes.append(f"The effect of the column {name} is not shown: {one_line(error, 200)}.")
            continue
        shown[name] = one["grid_values"][0].tolist(), one["average"][of if len(classes) > 2 else 0]
    if not shown:
        return
    made.numbers["dependence"] = {
        "class": classes[of],
        "columns": {name: dict(zip(values, means.tolist(), strict=True)) for name, (values, means) in shown.items()},
    }
    made.parts["dependence"] = plots.dependences(shown, classes[of], "Partial dependence")


def keep(made: Examination, file: Path | None, command: str, *, browse: bool) -> dict[str, str]:
    """Log an examination in a run, and write its page; return the run's id and the page's file.

    Args:
        made: The examination.
        file: The page; None is `reports/examine-NAME.html`.
        command: What makes it again.
        browse: Open the page in the browser.

    Raises:
        InputError: The file exists, and no examination wrote it.
    """
    file = html_page.claim(file or project_root() / "reports" / f"{_COMMAND}-{made.name}.html", _COMMAND)
    runs.close_abandoned(_COMMAND)
    with runs.start(_COMMAND, name=f"{_COMMAND} {made.title}") as run:
        run.tags({}, {"model": made.name, "version": made.version})
        scores = made.numbers.get("accuracy", {})
        part = "test" if made.unseen else "train"
        run.metrics({f"{part}_accuracy{end}": scores[key] for key, end in _SCORES.items() if scores})
        pictures, tables = {}, {}
        for name, content in made.parts.items():
            if isinstance(content, Figure):
                pictures[name] = html_page.address(run.figure(content, f"pictures/{name}.png"), "png")
            else:
                run.frame(content, f"{name}.json")
                tables[name] = [list(content.columns), *_cells(content, 2 if name == "first_outputs" else 3)]
        page = html_page.render(_COMMAND, made=made, numbers=made.numbers, pictures=pictures, tables=tables)
        run.text(page, "examination.html")
        html_page.write(page, file, browse=browse)
        run.describe("\n\n".join(filter(None, [made.accuracy, *made.notes])), command)
    return {"run": run.id, "page": str(file)}


def _cells(table: pd.DataFrame, digits: int = 3) -> list[list[str]]:
    def words(value: Any) -> str:
        if isinstance(value, float):
            return "–" if np.isnan(value) else f"{value:.{digits}f}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    return [[words(value) for value in row] for row in table.itertuples(index=False)]


def show(made: Examination, kept: dict[str, str], *, as_json: bool) -> None:
    """Print an examination: the layers, the accuracy, and where the rest is; or all numbers as JSON."""
    if as_json:
        say_json(made.numbers | {"notes": made.notes} | kept)
        return
    layers = made.parts["layers"]
    if isinstance(layers, pd.DataFrame):
        title = f"{made.title}: {made.numbers['parameters']:,} parameters"
        print_table(title, list(layers.columns), _cells(layers), left=True)
    for line in filter(None, [made.accuracy, *made.notes]):
        say(line)
    say(f"The pictures are in {kept['page']}, and in run {kept['run']}")
