"""`trackdl compare`: what MLflow's page cannot show of several runs.

Seeds are one mean with its interval, only the settings that differ are listed, and each image stands beside the same
image of the other runs: in the terminal, and as one self-contained HTML file.
"""

import io
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from scipy.stats import ttest_ind

from trackdl import spec
from trackdl.analysis.stats import mean_interval
from trackdl.apps import html_page
from trackdl.errors import FileError, InputError, TrackdlError
from trackdl.plots.common import seed_curves
from trackdl.spec.keys import meant
from trackdl.system.console import counted, plain, print_table, say
from trackdl.system.findings import first_few
from trackdl.system.paths import content_of
from trackdl.tracking import store
from trackdl.tracking.runs import Run
from trackdl.tracking.store import StoredRun

_PICTURES = "pictures"
_MOST_POINTS = 1_000  # of a metric's history, in a chart
_MOST_PANELS = 24
_FINITE = 1e300  # MLflow keeps an infinite value as the largest number
_MOST_IMAGE_BYTES = 2_000_000
_SEED = "training.seed"
_ASIDE = {_SEED, "seeds"}
_VARIED = {*_ASIDE, "data.split_seed"}  # between the seeds of one experiment


@dataclass(frozen=True)
class Side:
    """One of the runs that are compared: a run, or one whose child runs differ in their seeds only, with these."""

    name: str
    run: StoredRun
    seeds: list[StoredRun]

    @cached_property
    def settings(self) -> dict[str, str]:
        """The run's parameters, by key."""
        return dict(self.run.data.params)

    @cached_property
    def metrics(self) -> dict[str, list[float]]:
        """Each metric's last value, of every seed; only those that all seeds have."""
        shared = set.intersection(*(set(one.data.metrics) for one in self.seeds))
        found = {key: [one.data.metrics[key] for one in self.seeds] for key in sorted(shared) if "system/" not in key}
        return {key: values for key, values in found.items() if all(abs(value) < _FINITE for value in values)}

    @property
    def notes(self) -> list[str]:
        """What the means do not show: seeds that have not finished, and metrics that are not finite."""
        asked, count = self.settings.get("seeds", ""), len(self.seeds)
        left = [f"{count} of {asked} seeds have finished"] if count > 1 and asked not in ("", str(count)) else []
        odd = {
            key
            for one in self.seeds
            for key, value in one.data.metrics.items()
            if not abs(value) < _FINITE and "system/" not in key
        }
        left += [f"not finite, so not compared: {first_few(sorted(odd))}"] if odd else []
        return [f"{self.name}: {words}" for words in left]


@dataclass(frozen=True)
class Comparison:
    """What differs between runs: settings, and metrics by name with the values of each side's seeds."""

    sides: list[Side]
    settings: dict[str, list[str | None]] = field(default_factory=dict)
    metrics: dict[str, list[list[float]]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object; `low` and `high` bound the 95 % interval of a mean over seeds."""

        def figure(values: Sequence[float]) -> dict[str, Any] | None:
            if not values:
                return None
            low, high = mean_interval(values) if len(values) > 1 else (None, None)
            return {"mean": sum(values) / len(values), "low": low, "high": high, "values": list(values)}

        return {
            "runs": [
                {
                    "name": side.name,
                    "id": side.run.info.run_id,
                    "status": side.run.info.status,
                    "seeds": [one.info.run_id for one in side.seeds] if len(side.seeds) > 1 else [],
                }
                for side in self.sides
            ],
            "settings": self.settings,
            "metrics": {key: [figure(values) for values in row] for key, row in self.metrics.items()},
        }


def compare(names: Sequence[str]) -> Comparison:
    """Compare runs.

    Args:
        names: Of each run its id, the first digits of it, or its name: the newest run that is called so, of the report
            at hand if it has one.

    Raises:
        InputError: A name is no run's, several runs' ids begin with it, or only one run is named.
    """
    if len(names) < 2:
        raise InputError("name at least two runs to compare: their ids, the first digits of these, or their names")
    known = store.every_run()
    found = [_find(name, known) for name in names]
    if len({run.info.run_id for run in found}) < len(found):
        raise InputError("the same run is named twice; `trackdl compare` takes different ones")
    labels = [run.info.run_name or run.info.run_id[:8] for run in found]
    sides = [
        Side(plain(label if labels.count(label) == 1 else f"{label} ({run.info.run_id[:8]})"), run, _seeds(run, known))
        for run, label in zip(found, labels, strict=True)
    ]
    aside = _VARIED if any(len(side.seeds) > 1 for side in sides) else _ASIDE
    keys = sorted({key for side in sides for key in side.settings} - aside)
    settings = {key: [side.settings.get(key) for side in sides] for key in keys}
    seeds = [
        ", ".join(sorted((one.data.params.get(_SEED, "-") for one in side.seeds), key=_in_order))
        if _SEED in side.settings
        else None
        for side in sides
    ]
    differing = {key: row for key, row in {**settings, "seed": seeds}.items() if len(set(row)) > 1}
    # A metric that only one run has, or that is the same everywhere, compares nothing.
    metrics = {
        key: [side.metrics.get(key, []) for side in sides] for key in sorted({k for s in sides for k in s.metrics})
    }
    shared = {key: row for key, row in metrics.items() if sum(map(bool, row)) > 1 and len({*map(tuple, row)}) > 1}
    return Comparison(sides, differing, shared)


def _in_order(seed: str) -> tuple[int, str]:
    """Sort whole numbers by size, and whatever else somebody has logged as a seed, too."""
    return len(seed), seed


def _find(name: str, known: Sequence[StoredRun]) -> StoredRun:
    """Return the newest run that is called `name`, of this report if it has one, or else the one whose id begins so."""
    called = [run for run in known if run.info.run_name == name]
    called.sort(key=lambda run: run.data.tags.get("trackdl.report") != spec.report().slug)
    begins = [run for run in known if run.info.run_id.startswith(name)] if name and not called else []
    if len(begins) > 1:
        raise InputError(f"{name}: the ids of {len(begins)} runs begin so; give more digits")
    if not begins and not called:
        near = meant(name, [run.info.run_name or "" for run in known])
        raise InputError(f"no run has the name {name!r}, or an id that begins so; {near}`trackdl ui` lists all runs")
    return (called or begins)[0]


def _seeds(run: StoredRun, known: Sequence[StoredRun]) -> list[StoredRun]:
    """Return the finished child runs that differ in the seed only, by seed; of a run without such, itself."""
    below = [
        one
        for one in known
        if one.data.tags.get("mlflow.parentRunId") == run.info.run_id and one.info.status == "FINISHED"
    ]
    settings = [{key: value for key, value in one.data.params.items() if key not in _VARIED} for one in below]
    seeds = [one.data.params.get(_SEED) for one in below]
    if len(below) < 2 or None in seeds or len(set(seeds)) < len(seeds) or any(one != settings[0] for one in settings):
        return [run]
    return sorted(below, key=lambda one: _in_order(one.data.params[_SEED]))


def figure_words(values: Sequence[float]) -> str:
    """Return one run's value, or the mean of several seeds with its 95 % interval, as text."""
    if not values:
        return "-"
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.5g}"
    return _interval_words(mean, *mean_interval(values))


def _interval_words(mean: float, low: float, high: float, sign: str = "") -> str:
    """Write a mean and its interval with as many decimals as the interval's width gives a meaning to."""
    width = high - low
    decimals = max(0, 2 - math.floor(math.log10(width))) if 0 < width < math.inf else 5
    words = [f"{value:{sign},.{min(decimals, 12)}f}" for value in (mean, low, high)]
    return f"{words[0]} ({words[1]} to {words[2]})"


def difference_words(row: Sequence[Sequence[float]]) -> str:
    """Return the second of two runs' metrics less the first, with Welch's 95 % interval where both have seeds."""
    first, second = row
    if not first or not second:
        return "-"
    difference = sum(second) / len(second) - sum(first) / len(first)
    if min(len(first), len(second)) < 2 or len({*first}) == len({*second}) == 1:
        return f"{difference:+,.0f}" if abs(difference) >= 1000 else f"{difference:+.3g}"
    bounds = ttest_ind(second, first, equal_var=False).confidence_interval(0.95)
    return _interval_words(difference, bounds.low, bounds.high, "+")


def _tables(found: Comparison) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return what differs as tables: title, columns and rows."""
    columns = [side.name for side in found.sides]
    two = len(columns) == 2
    seeded = any(len(side.seeds) > 1 for side in found.sides)
    title = "Metrics, last values" + (": means over seeds with 95 % intervals" if seeded else "")
    return [
        (
            "Settings that differ",
            ["setting", *columns],
            [[key, *(value if value is not None else "-" for value in row)] for key, row in found.settings.items()],
        ),
        (
            title,
            ["metric", *columns, *(["second − first"] if two else [])],
            [
                [key, *map(figure_words, row), *([difference_words(row)] if two else [])]
                for key, row in found.metrics.items()
            ],
        ),
    ]


def show(found: Comparison) -> None:
    """Print what differs."""
    for side in found.sides:
        many = f", {counted(len(side.seeds), 'seed')}" if len(side.seeds) > 1 else ""
        say(f"{side.name}: run {side.run.info.run_id}, {side.run.info.status}{many}")
    for title, columns, rows in _tables(found):
        if rows:
            print_table(title, columns, rows)
        else:
            say(f"{title}: none that the runs share.")
    for note in (note for side in found.sides for note in side.notes):
        say(f"note: {note}")


def write(found: Comparison, file: Path | None, *, browse: bool) -> None:
    """Write the comparison as a self-contained HTML page; `browse` opens it in the browser.

    By default the file is `reports/compare.html`.

    Raises:
        InputError: The file exists, and no comparison wrote it.
    """
    file = html_page.claim(file, "compare")
    notes = [note for side in found.sides for note in side.notes]
    curves, images = _curves(found, notes), _images(found, notes)
    page = html_page.render(
        "compare", sides=found.sides, tables=_tables(found), curves=curves, images=images, notes=notes
    )
    html_page.write(page, file, browse=browse)
    say(f"The comparison is in {file}")


def _curves(found: Comparison, notes: list[str]) -> str:
    """Return the metrics' courses over the epochs as an image's address, or ''; note what is left out."""
    left: list[str] = []
    panels: dict[str, dict[str, list[list[tuple[int, float]]]]] = {}
    for metric, row in found.metrics.items():
        if metric.endswith(("_low", "_high", "_seconds", "_per_second")) or metric == "batch_loss":
            continue
        if len(panels) == _MOST_PANELS:
            left.append(metric)
            continue
        histories = {
            side.name: [Run(one.info.run_id).history(metric) for one in side.seeds]
            for side, values in zip(found.sides, row, strict=True)
            if values
        }
        lengths = [len(points) for several in histories.values() for points in several]
        if max(lengths) > _MOST_POINTS:
            left.append(metric)
            continue
        drawable = {name: several for name, several in histories.items() if _drawable(several)}
        if max(lengths) > 1 and drawable:
            panels[metric] = drawable
    if left:
        notes.append(f"not drawn, for there are too many points or metrics: {first_few(left)}")
    if not panels:
        return ""
    file = io.BytesIO()
    seed_curves(panels).savefig(file, format="svg")
    return html_page.address(file.getvalue(), "svg+xml")


def _drawable(seeds: Sequence[Sequence[tuple[int, float]]]) -> bool:
    """Return whether all seeds have a value at some step, and each value is finite."""
    shared = set.intersection(*({step for step, _ in points} for points in seeds))
    return bool(shared) and all(abs(value) < _FINITE for points in seeds for _, value in points)


def _images(found: Comparison, notes: list[str]) -> list[tuple[str, list[str]]]:
    """Return the images that at least two runs have and that differ: each one's name, and its address of every side.

    What cannot be shown is noted.
    """
    kept = [_pictures_of(side, notes) for side in found.sides]
    rows = {path: [one.get(path, "") for one in kept] for path in sorted(set().union(*kept))}
    return [
        (Path(path).stem.replace("_", " "), row)
        for path, row in rows.items()
        if sum(map(bool, row)) > 1 and len(set(row)) > 1
    ]


def _pictures_of(side: Side, notes: list[str]) -> dict[str, str]:
    """Return the addresses of a run's images by their paths; note what cannot be shown."""
    run, shown = Run(side.run.info.run_id), {}
    try:
        small = run.artifacts(_PICTURES, _MOST_IMAGE_BYTES)
        every = [path for path in run.artifacts(_PICTURES) if path.endswith(".png")]
    except TrackdlError:
        notes.append(f"{side.name}: its images cannot be listed")
        return {}
    for path in every:
        try:
            if path not in small:
                raise FileError("is too large")
            with tempfile.TemporaryDirectory() as folder:
                content = content_of(run.fetch(path, Path(folder)), _MOST_IMAGE_BYTES)
            shown[path] = html_page.address(content, "png")
        except (TrackdlError, FileError):
            notes.append(f"{side.name}: {plain(path)} cannot be read, or is no file of at most 2 MB")
    return shown
