"""What a report leaves out, and what its numbers say it was: candidates judged by the table of their trainings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from trackdl.analysis import grid_table
from trackdl.analysis.recovery import FEWEST, Recovery, Values, finite, reach, recover
from trackdl.errors import InputError
from trackdl.ledger.model import Candidate, PrintedPoint, Recovered, SeedEvidence
from trackdl.ledger.rule import all_rounded, rounded
from trackdl.ledger.words import METRICS, cell_words, form_share, key_words, value_words
from trackdl.spec import ClassifySpec, RecoverSpec, Reported
from trackdl.spec.base import DROPOUT

EPOCHS = "training.epochs"
FORMULA = "likelihood of candidates"
# Royall (1997): a likelihood ratio of 8 is fairly strong evidence, one of 32 is strong.
FAIRLY_STRONG, STRONG = 8, 32
DIGITS = 5  # of means and bands, which are only drawn
FEWEST_DECIMALS, MOST_DECIMALS = 2, 6  # that a report prints: 1.0 may be 100 % or 100.00 %


def recovered(
    experiment: ClassifySpec, recovery: RecoverSpec, table: bytes, evidence: SeedEvidence | None = None
) -> Recovered:
    """Judge the candidates for what an experiment's report leaves out.

    Args:
        experiment: The experiment, with the numbers that its report prints.
        recovery: Its candidates.
        table: Their trainings, as `trackdl recover` keeps them.
        evidence: Where the table comes from.

    Raises:
        ValueError, TypeError, KeyError: It is not the whole table, or all candidates have diverged.
        InputError: The report prints no number that a recovery measures.
    """
    fits, impossible = grid_table.read(table)
    grid_table.check_whole(recovery.grid, fits, impossible)
    histories = {metric: grid_table.history(fits, metric) for metric in _metrics(fits)}
    numbers = measured(experiment, recovery)
    candidates = recovery.candidates()
    names = {key: name for name, key in recovery.grid.names.items()}
    values = []
    for candidate in candidates:
        cell = {names[key]: value for key, value in candidate.items() if key != DROPOUT}
        own = grid_table.is_cell(fits, cell) if cell else np.ones(len(fits), dtype=bool)
        of_cell = {metric: frame[own].to_numpy(np.float64) for metric, frame in histories.items()}
        epochs = candidate.get(EPOCHS, recovery.experiment.training.epochs)
        values.append(_values(of_cell, numbers, epochs, dropout=candidate.get(DROPOUT) is True))
    printed = np.array([one.value for one in numbers])
    series = list(dict.fromkeys(one.series for one in numbers))
    exact = _exact(numbers)
    found = recover(printed, values, [series.index(one.series) for one in numbers], exact)
    best, last = found.log_likelihoods.max(), max(_epochs(recovery))
    judged = []
    for place in np.argsort(-found.log_likelihoods, kind="stable"):
        if not np.isfinite(found.log_likelihoods[place]):
            continue
        ours = finite(values[place])
        mean, half = ours.mean(axis=0), reach(ours, exact)
        gaps = pd.Series(mean - printed).groupby([one.metric for one in numbers], sort=False).mean()
        judged.append(
            Candidate(
                values=candidates[place],
                weight=rounded(found.weights[place]),
                below=rounded(best - found.log_likelihoods[place]),
                inside=rounded(found.inside[place]),
                gaps=dict(zip(gaps.index, all_rounded(gaps, DIGITS), strict=True)),
                mean=all_rounded(mean, DIGITS),
                low=all_rounded(mean - half, DIGITS),
                high=all_rounded(mean + half, DIGITS),
            )
        )
    return Recovered(
        task=experiment.name,
        seeds=recovery.seeds,
        points=[
            PrintedPoint(metric=one.metric, epoch=_epoch(one, last), series=one.series, value=rounded(one.value))
            for one in numbers
        ],
        effective=all_rounded(found.effective, DIGITS),
        recognised=found.recognised[0],
        tried=found.recognised[1],
        candidates=judged,
        diverged=[candidates[place] for place in np.flatnonzero(~np.isfinite(found.log_likelihoods))],
        words=" ".join([_words(candidates, found, len(numbers)), *_diverged(candidates, values)]),
        evidence=evidence,
    )


def _metrics(fits: pd.DataFrame) -> list[str]:
    matches = (grid_table.HISTORY.fullmatch(name) for name in fits.columns)
    return list(dict.fromkeys(match[1] for match in matches if match))


def _epochs(recovery: RecoverSpec) -> list[int]:
    """Return how many epochs candidates are trained for."""
    found: list[int] = recovery.space.get(EPOCHS, [recovery.experiment.training.epochs])
    return found


def _epoch(number: Reported, last: int) -> int:
    """Return the epoch of a number; one that names none is of its training's last."""
    return last if number.epoch is None else number.epoch


def measured(experiment: ClassifySpec, recovery: RecoverSpec) -> list[Reported]:
    """Return the printed numbers that say something of the candidates.

    They are what they are called, and of a metric and an epoch that every training measures.

    Raises:
        InputError: There are none.
    """
    parts = ("train", "val", "test") if recovery.experiment.data.validation else ("train", "test")
    metrics = {f"{part}_{kind}" for part in parts for kind in ("loss", "accuracy")}
    least = min(_epochs(recovery))

    def is_measured(one: Reported) -> bool:
        best = one.metric.startswith("best_")
        known = one.metric.removeprefix("best_") in metrics and (not best or "val" in parts)
        return known and 1 <= _epoch(one, least) <= least and not (one.fault or one.comparable)

    found = [one for one in experiment.numbers if is_measured(one)]
    if not found:
        raise InputError(
            f"{experiment.name}.yaml: nothing to judge candidates by: `reported` or `printed` must have a number "
            f"without `fault` that every training measures, of {', '.join(sorted(metrics))}, by epoch {least} at most"
        )
    return found


def _exact(numbers: Sequence[Reported]) -> Values:
    """Return half of the last digit that a report prints, of each number: the most that one of its kind has."""
    decimals: dict[tuple[str, str], int] = {}
    for one in numbers:
        kind = (one.metric, one.series)
        printed = len(f"{one.value:.{MOST_DECIMALS}f}".rstrip("0").partition(".")[2])
        decimals[kind] = max(decimals.get(kind, FEWEST_DECIMALS), printed)
    return np.array([0.5 * 10.0 ** -decimals[one.metric, one.series] for one in numbers])


def _values(histories: Mapping[str, Values], numbers: Sequence[Reported], epochs: int, *, dropout: bool) -> Values:
    """Return ours, [trainings, numbers]; with `dropout` what is validated was validated with dropout active."""

    def history(metric: str) -> Values:
        return histories[f"{metric}_dropout" if dropout and metric.startswith("val_") else metric]

    columns = []
    for one in numbers:
        epoch = _epoch(one, epochs)
        if one.metric.startswith("best_"):
            best = history("val_accuracy")[:, :epoch].argmax(axis=1)
            own = history(one.metric.removeprefix("best_"))
            columns.append(own[np.arange(len(own)), best])
        else:
            columns.append(history(one.metric)[:, epoch - 1])
    return np.column_stack(columns)


def _words(candidates: Sequence[Mapping[str, Any]], found: Recovery, numbers: int) -> str:
    """Return what the numbers say of each key, all other keys weighed by their likelihoods."""
    parts = []
    for key, name in key_words(list(candidates[0])).items():
        shares: dict[Any, list[float]] = {}
        for candidate, weight in zip(candidates, found.weights, strict=True):
            shares.setdefault(value_words(candidate[key]), []).append(float(weight))
        if len(shares) < 2:
            continue
        # A value of which no candidate is judged has the likelihood 0, which `_diverged` explains.
        (best, top), *rest = sorted(
            ((value, float(np.mean(own))) for value, own in shares.items()), key=lambda one: -one[1]
        )
        against = [f"`{value}` {_against(top / max(share, 1e-300))}" for value, share in rest]
        parts.append(f"{name}: `{best}` fits best; {', '.join(against)}.")
    low, high = found.own_fit
    measured = f"log-likelihood per independent number: {found.fit:.2f}, against {low:.2f} to {high:.2f}"
    if found.fit < low:
        parts.append(
            "But the report fits the best candidate less well than any of that candidate's own runs does "
            f"({measured}): something else may differ too."
        )
    else:
        parts.append(f"The report fits the best candidate as well as that candidate's own runs do ({measured}).")
    right, tried = found.recognised
    if numbers > 1:
        parts.append(f"The {numbers} printed numbers count as {sum(found.effective):.1f} independent ones.")
    else:
        parts.append("All of this rests on a single printed number.")
    parts.append(
        f"Tried on each of our own {tried} runs as if it were the report, the method finds its candidate {right} times."
    )
    return " ".join(part[:1].upper() + part[1:] for part in parts)


def _diverged(candidates: Sequence[Mapping[str, Any]], values: Sequence[Values]) -> list[str]:
    """Return a sentence for each candidate of which trainings have diverged."""
    found = []
    for candidate, own in zip(candidates, values, strict=True):
        lost = len(own) - len(finite(own))
        if lost:
            words = cell_words({name: candidate[key] for key, name in key_words(list(candidate)).items()})
            left = "" if len(own) - lost >= FEWEST else "; it is not judged"
            found.append(f"Of {words}, {lost} of {len(own)} trainings have diverged{left}.")
    return found


def _against(ratio: float) -> str:
    """Return what a likelihood ratio says of a value, in Royall's words."""
    times = f"{ratio:,.0f} times less likely" if ratio < 1e6 else "more than a million times less likely"
    if ratio >= STRONG:
        return f"is {times} (strong evidence)"
    if ratio >= FAIRLY_STRONG:
        return f"is {times} (fairly strong evidence)"
    return f"cannot be distinguished from it (a likelihood ratio of {ratio:.1f})"


def table(found: Recovered) -> tuple[list[str], list[list[str]]]:
    """Return the candidates as a table's columns and rows, the likeliest first."""
    names = key_words(list(found.candidates[0].values))
    metrics = list(found.candidates[0].gaps)
    units = {metric: "fraction" if "accuracy" in metric else "loss" for metric in metrics}
    rows = [
        [
            *(value_words(one.values[key]) for key in names),
            form_share(one.weight),
            f"{100 * one.inside:.0f}\u00a0%",
            *(f"{one.gaps[m]:+.4f}" if units[m] == "loss" else f"{100 * one.gaps[m]:+.2f} points" for m in metrics),
        ]
        for one in found.candidates
    ]
    gaps = [f"{METRICS.get(metric, metric)}, ours − printed" for metric in metrics]
    return [*names.values(), "share of likelihood", "printed inside the interval", *gaps], rows
