"""`trackdl evaluate`: how good a registered model is on examples that a user brings, whose classes are known.

Every model is judged on the same examples: what one of them cannot use, or was trained on, is left out and named.
"""

import hashlib
import io
import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from trackdl import spec
from trackdl.analysis.answers import Judged, Paired, judge, mcnemar
from trackdl.apps import html_page
from trackdl.apps.predict import Loaded, check_split, classified, load, rows_of
from trackdl.data.preprocessing.image_files import read_image
from trackdl.data.tables.cells import Cells, called
from trackdl.data.tables.heart import HEART
from trackdl.data.tables.schema import check_target, class_of, meant, raise_all, text_of
from trackdl.data.tables.table import MAX_BYTES
from trackdl.errors import InputError
from trackdl.plots import answers as plots
from trackdl.serving import ImageCard, ServedImages, ServedTable, TableCard, as_pixels
from trackdl.system.console import counted, print_table, progress, say, say_json
from trackdl.system.findings import first_few
from trackdl.system.paths import read_bounded, visible_files
from trackdl.tracking import runs

_MOST_SHOWN = 500  # examples on the page, the surest mistakes first
_MOST_DRAWN, _MOST_LINES = 24, 20  # mistakes in the run's figure; lines of a list in the terminal
_THUMBNAIL = 160  # pixels
_LAYOUT = "a folder for each class (letters/alpha/1.png), or files named by their class (letters/alpha_1.png)"


@dataclass(frozen=True)
class Side:
    """A version that is judged, with the preprocessing that it is judged with."""

    title: str
    model: Loaded

    @property
    def classes(self) -> list[str]:
        """The model's classes."""
        return self.model.served.card.classes

    @property
    def preprocessing(self) -> str | None:
        """How the model makes an image its input; None of a table's."""
        card = self.model.served.card
        return card.preprocessing if isinstance(card, ImageCard) else None


@dataclass
class Example:
    """An image, a sign or a row: its class, and of each side the answer, its probability, and what it was shown."""

    name: str
    true: str
    said: list[str]
    shares: list[float]
    file: Path | None = None
    shown: list[NDArray[np.uint8]] = field(default_factory=list)

    @property
    def wrong(self) -> bool:
        """Whether the first side is wrong."""
        return self.said[0] != self.true

    @property
    def rank(self) -> tuple[bool, float]:
        """The order: mistakes first, and of these the surest; then right answers, and of these the least sure."""
        return not self.wrong, -self.shares[0] if self.wrong else self.shares[0]


@dataclass(frozen=True)
class Evaluation:
    """The answers of one side or several to the same examples, and what was left out and why."""

    source: Path
    sides: list[Side]
    examples: list[Example]
    left_out: list[tuple[str, str]]
    digest: str

    @cached_property
    def judged(self) -> list[Judged]:
        """Each side's accuracy, and what it is made of."""
        true, said = [one.true for one in self.examples], zip(*(one.said for one in self.examples), strict=True)
        return [judge(true, answers, self.sides[0].classes) for answers in said]

    @cached_property
    def paired(self) -> list[Paired]:
        """McNemar's test of the first side and each other one."""
        first, *others = zip(*([said == one.true for said in one.said] for one in self.examples), strict=True)
        return [mcnemar(first, other) for other in others]

    @property
    def class_rows(self) -> list[list[str]]:
        """Of each class its number of examples, and the first side's recall and precision, as texts."""
        one = self.judged[0]
        shares = [["-" if share is None else f"{share:.1%}" for share in each] for each in (one.recall, one.precision)]
        counts = [f"{count:,}" for count in one.confusion.sum(axis=1).tolist()]
        return [list(row) for row in zip(self.sides[0].classes, counts, *shares, strict=True)]

    @property
    def words(self) -> list[str]:
        """The result as sentences."""
        accuracies = [
            f"{side.title}: {one.right:,} of {one.examples:,} right, {one.right / one.examples:.1%}"
            f" (exact 95 % interval {one.low:.1%} to {one.high:.1%})"
            for side, one in zip(self.sides, self.judged, strict=True)
        ]
        if self.left_out:
            accuracies[0] += f"; {len(self.left_out):,} left out"
        tests = [
            f"Only {self.sides[0].title} is right on {test.only_first:,}, only {side.title} on {test.only_second:,}:"
            f" McNemar's exact test, p {'< 0.0001' if test.p < 1e-4 else f'= {test.p:.2g}'}"
            for side, test in zip(self.sides[1:], self.paired, strict=True)
        ]
        unknown = dict.fromkeys(
            f"Note: {one.name} version {one.version}: {one.why}, so it is not known whether it was trained on these"
            for one in (side.model for side in self.sides)
            if one.why
        )
        return [*accuracies, *tests, *unknown]

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object; `wrong` lists what the first side got wrong."""
        models = [
            {"model": side.model.name, "version": side.model.version, "preprocessing": side.preprocessing}
            | vars(one)
            | {"accuracy": one.right / one.examples, "confusion": one.confusion.tolist()}
            for side, one in zip(self.sides, self.judged, strict=True)
        ]
        wrong = [
            {"example": one.name, "class": one.true, "answer": one.said[0], "probability": one.shares[0]}
            for one in self.examples
            if one.wrong
        ]
        left_out = [{"file": name, "why": why} for name, why in self.left_out]
        tests = [vars(one) for one in self.paired]
        classes = self.sides[0].classes
        return {"models": models, "classes": classes, "mcnemar": tests, "wrong": wrong, "left_out": left_out}


def evaluate(
    uri: str, source: Path, against: str | None = None, preprocessing: Sequence[str] = (), *, split: bool = False
) -> Evaluation:
    """Judge a registered model.

    Args:
        uri: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, or `runs:/ID` of the run that registered it.
        source: A folder of images whose folders or names are classes; for a model of tables, a CSV file with classes.
        against: The address of a model of the same classes to compare it with.
        preprocessing: Judge it with each of these, instead of its own.
        split: Read all signs on each image; each is an example.

    Raises:
        InputError: There is no such model or source, the classes are others, or nothing can be judged.
        TrackdlError: As `predict.load`.
    """
    sides = _sides(uri, against, preprocessing)
    table, title = isinstance(sides[0].model.served, ServedTable), sides[0].title
    for side in sides if split else []:
        check_split(side.title, side.model.served)
    if not source.exists() or table == source.is_dir():
        what, expected = ("table rows", "a CSV file with their classes") if table else ("images", _LAYOUT)
        wrong = "this is not one" if source.exists() else "it is not there"
        raise InputError(f"{source}: {title} is a model of {what} and needs {expected}; {wrong}")
    found = _of_table(sides, source) if table else _of_images(sides, source, split=split)
    left = first_few([f"{name} ({why})" for name, why in found.left_out])
    without = f"; left out: {left}" if left else ""
    if not found.examples:
        raise InputError(f"{source}: nothing is left to judge{without}")
    if len({one.true for one in found.examples}) == 1:
        each, only = counted(len(found.examples), "example"), found.examples[0].true
        raise InputError(f"{source}: {each} of one class, {only}: an accuracy needs at least two classes{without}")
    found.examples.sort(key=lambda one: one.rank)
    return found


def _sides(uri: str, against: str | None, preprocessing: Sequence[str]) -> list[Side]:
    model = load(uri)
    named = f"{model.name} version {model.version}"
    sides = [] if preprocessing else [Side(named, model)]
    for name in dict.fromkeys(preprocessing):
        served, own = model.served, Side(named, model).preprocessing
        may = get_args(spec.Preprocessing)
        if name not in may:
            raise InputError(f"--preprocessing {name}: may be {' or '.join(may)}")
        if not isinstance(served, ServedImages) or own not in may:
            raise InputError(f"--preprocessing {name}: the preprocessing of {named} ({own}) cannot be replaced")
        other = ServedImages(served.model, served.card.model_copy(update={"preprocessing": name}))
        sides.append(Side(f"{named} ({name})", replace(model, served=other)))
    if against:
        second = load(against)
        title, cards = f"{second.name} version {second.version}", (model.served.card, second.served.card)
        if title == named and not preprocessing:
            raise InputError(f"--against: this is {named} itself; name another version or model")
        targets = {card.target for card in cards if isinstance(card, TableCard)}
        if len(targets) > 1:
            raise InputError(f"--against: {title} and {named} predict other columns: {first_few(sorted(targets))}")
        if type(cards[0]) is not type(cards[1]) or set(cards[0].classes) != set(cards[1].classes):
            ours, theirs = (first_few(card.classes) for card in cards)
            raise InputError(f"--against: {title} answers {theirs}, and {named} {ours}; their classes must be the same")
        sides.append(Side(title, second))
    return sides


def _of_images(sides: list[Side], folder: Path, *, split: bool) -> Evaluation:
    """Classify the images of a folder; of most of them the answers alone are kept."""
    true = _labelled(folder, sides[0])
    root = os.path.realpath(folder)  # of links that lead in a circle too
    linked = {path for path in true if not Path(os.path.realpath(path)).is_relative_to(root)}
    left_out = [(path.relative_to(folder).as_posix(), "a link out of the folder") for path in true if path in linked]
    names = [str(path) for path in true if path not in linked]
    examples: list[Example] = []
    pictured: list[Example] = []  # those that keep what the network was shown
    digest = hashlib.sha256()
    streams = [
        groupby(
            classified(cast("ServedImages", side.model.served), side.model.learnt, names, split=split),
            lambda pair: str(pair[0]["file"]),
        )
        for side in sides
    ]
    with progress("images", len(names), every=1_000) as advance:
        for groups in zip(*streams, strict=True):
            parts, path = [list(answers) for _, answers in groups], Path(groups[0][0])
            name = path.relative_to(folder).as_posix()
            advance(name)
            if why := next(
                filter(None, (_unusable(side, part[0][0]) for side, part in zip(sides, parts, strict=True))), ""
            ):
                left_out.append((name, why))
                continue
            digest.update(f"{name}\0{true[path]}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
            for number, answers in enumerate(zip(*parts, strict=True), 1):
                title = f"{name}, sign {number}" if split else name
                shown = [_small(inputs) for _, inputs in answers if inputs is not None]
                examples.append(_example(title, true[path], [item for item, _ in answers], path, shown))
                pictured.append(examples[-1])
            if len(pictured) > 2 * _MOST_SHOWN:
                pictured.sort(key=lambda one: one.rank)
                for one in pictured[_MOST_SHOWN:]:
                    one.shown = []
                del pictured[_MOST_SHOWN:]
    return Evaluation(folder, sides, examples, left_out, digest.hexdigest())


def _example(name: str, true: str, items: Sequence[dict[str, Any]], *pictures: Any) -> Example:
    said = [str(item["label"]) for item in items]
    return Example(name, true, said, [item["probabilities"][item["label"]] for item in items], *pictures)


def _unusable(side: Side, item: dict[str, Any]) -> str:
    """Return why a side cannot be judged by a file, or nothing."""
    if "error" in item:
        return str(item["error"]).removeprefix(f"{item['file']}: ")
    return f"a copy of training image {item['copy_of']} of {side.title}" if item.get("copy_of") else ""


def _small(inputs: Tensor) -> NDArray[np.uint8]:
    image = Image.fromarray((as_pixels(inputs.unsqueeze(0))[0] * 255).round().astype(np.uint8))
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return np.asarray(image)


def _labelled(folder: Path, side: Side) -> dict[Path, str]:
    """Return the class of every file in a folder, by its class folder or its name.

    Raises:
        InputError: There is no file, or a file is of none of the model's classes.
    """
    places = {path: path.relative_to(folder).parts for path in visible_files(folder)}
    if odd := [str(path) for path in places if not str(path).isprintable() and "\udc80" <= max(str(path)) <= "\udcff"]:
        raise InputError(f"{folder}: {first_few([repr(name) for name in odd])}: the name is no UTF-8; rename it")
    if not places:
        raise InputError(f"{folder}: no images in this folder; expected {_LAYOUT}")
    named = {parts[0]: _class_of(parts[0], side.classes, folder=len(parts) > 1) for parts in places.values()}
    if unknown := [name for name, found in named.items() if found is None]:
        count = sum(parts[0] in unknown for parts in places.values())
        raise InputError(
            f"{folder}: {count:,} of {counted(len(places), 'file')} are of no class of {side.title}: "
            f"{first_few(unknown)}. Its classes are {first_few(side.classes, most=20)}; expected {_LAYOUT}"
        )
    return {path: str(named[parts[0]]) for path, parts in places.items()}


def _class_of(name: str, classes: Sequence[str], *, folder: bool) -> str | None:
    """Return the class that a folder's name is, or that a file's name begins with: alpha_1.png, beta2.png, 7-b.jpg."""
    stem = unicodedata.normalize("NFC", name if folder else Path(name).stem)
    composed = {unicodedata.normalize("NFC", one): one for one in classes}
    ends = [
        end
        for end in range(len(stem) - 1, 0, -1)
        if not folder and (not stem[end].isalnum() or (stem[end].isdigit() and stem[end - 1].isalpha()))
    ]
    parts = [stem[:end] for end in [len(stem), *ends]]
    # A sign between two digits parts them: 1_0 is no 10.
    tried = [part for part in parts if part in composed or not re.search(r"\d[\W_]+\d", part)]
    found = (called([part], list(composed))[0] for part in tried)
    return next((composed[one] for one in found if one in composed), None)


def _of_table(sides: list[Side], file: Path) -> Evaluation:
    """Classify the rows of a CSV file."""
    content = read_bounded(file, MAX_BYTES)
    tables = [rows_of(cast("ServedTable", side.model.served), content, str(file)) for side in sides]
    true = _classes_in(tables[0][0], sides[0])
    answers = zip(*(items for _, items in tables), strict=True)
    examples = [_example(f"row {row}", true[row - 1], items) for row, items in enumerate(answers, 1)]
    return Evaluation(file, sides, examples, [], hashlib.sha256(content).hexdigest())


def _classes_in(cells: Cells, side: Side) -> list[str]:
    """Return the class of each row, as the model's experiment names them.

    Raises:
        InputError: There is no target, or in a row it is missing or none of the model's classes.
    """
    with runs.download(f"runs:/{side.model.run_id}/experiment.yaml") as path:
        experiment = spec.logged(path.read_text(encoding="utf-8"), f"{side.title}'s experiment")
    own = cast("spec.TableSpec", experiment).data
    target = cast("TableCard", side.model.served.card).target
    data = (HEART if own.dataset == "heart" else own).model_copy(update={"target": target})
    cells = cells.without([])  # which refuses two columns of one name
    check_target(cells, data)
    names = {text_of(key): name for key, name in data.classes.items()}
    keys = [class_of(row[cells.header.index(target)], data) for row in cells.rows]
    found = [meant(names.get(key, key), side.classes) for key in keys]
    may = f"no class of {side.title}; it may be one of {first_few(side.classes, most=20)}"
    wrong = [(row, one) for row, one in enumerate(found, 1) if one not in side.classes]
    raise_all(cells.name, [(row, 0, f"row {row}, column {target}: is {one!r:.40}, {may}") for row, one in wrong])
    return found


def run(
    uri: str, source: Path, *how: Any, split: bool, output: Path | None, browse: bool, as_json: bool, command: str
) -> None:
    """Judge a model as `evaluate` does, log the run, write the page, and print the result; `command` makes it again."""
    file = html_page.claim(output, "evaluate")
    found = evaluate(uri, source, *how, split=split)
    brought: dict[Path, str] = {}
    shown = [(one, *_pictures(one, brought)) for one in found.examples[:_MOST_SHOWN]]
    page = html_page.render("evaluate", found=found, shown=shown)
    run_id = _track(found, page, command, split=split)
    html_page.write(page, file, browse=browse)
    if as_json:
        say_json(found.as_json() | {"run": run_id})
        return
    for words in found.words:
        say(words)
    classes, counts = found.sides[0].classes, found.judged[0].confusion.astype(str).tolist()
    if len(classes) <= _MOST_LINES:
        rows = [[name, *row] for name, row in zip(classes, counts, strict=True)]
        print_table("Confusion: a row for each class, a column for each answer", ["", *classes], rows)
    print_table("Classes", ["class", "examples", "recall", "precision"], found.class_rows)
    wrong = [[one.name, one.true, one.said[0], f"{one.shares[0]:.1%}"] for one in found.examples if one.wrong]
    for what, columns, lines in (
        ("wrong, the surest first", ["example", "class", "answer", "probability"], wrong),
        ("left out", ["file", "why"], [list(row) for row in found.left_out]),
    ):
        if lines:
            first = f", the first {_MOST_LINES} of them" if len(lines) > _MOST_LINES else ""
            print_table(f"{len(lines):,} {what}{first}", columns, lines[:_MOST_LINES], left=columns[0] == "file")
    say(f"The page is {file}, the run {run_id}")


def _track(found: Evaluation, page: str, command: str, *, split: bool) -> str:
    """Log an evaluation as a run; return its id."""
    first, side, name = found.judged[0], found.sides[0], found.source.resolve().name
    rows: list[dict[str, Any]] = [
        {"example": one.name, "class": one.true, "wrong": one.wrong} for one in found.examples
    ]
    for one, row in zip(found.examples, rows, strict=True):
        for place, other in enumerate(found.sides):
            row |= {other.title: one.said[place], f"{other.title}, probability": round(one.shares[place], 6)}
    frame = pd.DataFrame(rows)
    titles = [one.title for one in found.sides]
    settings = {"model": side.model.name, "version": side.model.version, "preprocessing": side.preprocessing}
    runs.close_abandoned("evaluate")
    with runs.start("evaluate", name=f"evaluate {', '.join(titles)}: {name}") as opened:
        kind = {"trackdl.kind": "evaluate", "trackdl.report": spec.report().slug}
        opened.tags(kind, settings | {"split": split, "against": "; ".join(titles[1:])})
        dataset = runs.describe_dataset(name, found.digest, f"brought by the user: {name}", frame)
        opened.dataset(dataset, "evaluation")
        accuracy = first.right / first.examples
        bounds = {"test_accuracy": accuracy, "test_accuracy_low": first.low, "test_accuracy_high": first.high}
        opened.metrics(bounds | {"examples": first.examples, "left_out": len(found.left_out)}, dataset=dataset)
        for place, test in enumerate(found.paired, 1):
            second = found.judged[place]
            opened.metrics({f"against_{place}_accuracy": second.right / second.examples, f"mcnemar_{place}_p": test.p})
        opened.frame(frame, "examples.json")
        opened.text(page, "evaluation.html")
        figure = plots.confusion(first.confusion, side.classes, f"{side.title}: {accuracy:.1%}")
        opened.figure(figure, "pictures/confusion.png")
        if wrong := [one for one in found.examples[:_MOST_DRAWN] if one.wrong and one.shown]:
            said = [(one.true, one.said[0], one.shares[0]) for one in wrong]
            figure = plots.mistakes(np.stack([one.shown[0] for one in wrong]), said, "The surest mistakes")
            opened.figure(figure, "pictures/mistakes.png")
        opened.describe("\n".join(f"- {words}" for words in found.words), command)
    return opened.id


def _pictures(one: Example, brought: dict[Path, str]) -> tuple[str, list[str]]:
    """Return the addresses of an example as brought, kept by file, and as each side was shown it; of a row nothing."""
    if one.file is None:
        return "", []
    if one.file not in brought:
        image = read_image(one.file, colour=True)
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
        brought[one.file] = _address(Image.fromarray(np.asarray(image)))  # its pixels alone, without comments
    return brought[one.file], [_address(Image.fromarray(pixels)) for pixels in one.shown]


def _address(image: Image.Image) -> str:
    file, kind = io.BytesIO(), "png" if max(image.size) <= 64 else "jpeg"
    image.save(file, kind)
    return html_page.address(file.getvalue(), kind)
