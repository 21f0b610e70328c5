"""The ledger's page and schema: made of the data alone, whole in one file, and safe whatever a run is called."""

import html
import html.parser
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import ROOT
from tools import ledger_schema
from trackdl import spec
from trackdl.analysis.hypotheses import SCOPE
from trackdl.ledger import charts, page
from trackdl.ledger.model import Ledger
from trackdl.spec import GridSpec

SHA = "a" * 64
EVIL = "<script>alert('x')</script>"
UI = "http://127.0.0.1:5000"
REPORT = {"title": EVIL, "authors": EVIL, "source": "https://example.org/report", "year": 2024, "slug": "evil"}
EXPERIMENTS = {
    name: {"kind": kind, "title": EVIL, "command": f"trackdl run {name}.yaml"}
    for name, kind in (("mnist", "classify"), ("grid", "grid"))
}


def figure(
    run: str, value: float, task: str = "mnist", metric: str = "test_accuracy", epoch: int = 1
) -> dict[str, object]:
    evidence = {
        "run": run, "seed": 1, "artifacts": ["a", "b"], "formula": "accuracy", "select": EVIL, "value": value,
    }  # fmt: skip
    return {
        "task": task, "metric": metric, "epoch": epoch, "unit": "fraction", "examples": 100, "mean": value,
        "low": value / 2, "high": value, "interval": "seeds", "evidence": [evidence],
    }  # fmt: skip


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    published = {
        "value": 0.5, "unit": "fraction", "quote": EVIL, "comparable": "same protocol", "unknown": "", "fault": "",
        "series": "",
    }  # fmt: skip
    entries = [
        {
            "task": "mnist", "metric": "test_accuracy", "epoch": epoch, "published": published,
            "figure": figure("r" * 32, 0.1 * epoch, epoch=epoch) if epoch < 5 else None, "spread": None,
            "verdict": "reproduced" if epoch < 5 else None, "words": EVIL if epoch < 5 else f"not run yet: {EVIL}",
        }
        for epoch in range(1, 7)
    ]  # fmt: skip
    run = {
        "task": "mnist", "name": EVIL, "model": "", "seed": 1, "source": "", "experiment_id": "7",
        "started": "2026-01-01T00:00:00",
        "version": "0.1", "commit": None, "uncommitted": True, "spec_digest": SHA, "data_digest": SHA,
        "code_digest": None, "command": "trackdl mnist", "artifacts": {"a": SHA, "b": SHA},
    }  # fmt: skip
    curve = {
        "task": "mnist", "metric": "batch_losses", "published": published | {"unit": "loss"}, "epochs": [1, 1, 2, 2],
        "seen": [0, 640, 0, 640], "size": 1280, "printed": [2.0, 1.0, 0.9, 0.8], "mean": [2.1, 1.1, 0.9, 0.7],
        "low": [1.9, 1.0, 0.8, 0.6], "high": [2.2, 1.2, 1.0, 0.8], "inside": 1.0, "parts": [1.5, 0.85],
        "evidence": [
            {"run": "r" * 32, "seed": 1, "artifacts": ["a"], "formula": "losses", "mean": 1.2, "parts": [1.6, 0.8]}
        ],
        "verdict": "differs", "words": EVIL,
    }  # fmt: skip
    hypotheses = [
        {"task": "grid", "dimension": EVIL, "quote": EVIL, "verdict": "supported", "words": EVIL, "figure": ""}
    ]
    return Ledger.model_validate(
        {
            "report": REPORT, "experiments": EXPERIMENTS,
            "version": "0.1", "commit": None, "made": "2026-01-01T00:00:00", "seeds": 1,
            "head": [{"title": EVIL, "entry": 0}, {"title": "none yet", "entry": 5}], "entries": entries,
            "curves": [curve], "hypotheses": hypotheses,
            "faults": [{"title": EVIL, "task": "grid", "quote": EVIL, "words": "run `trackdl grid`", "runs": []}],
            "beyond": [
                {"title": EVIL, "task": "mnist", "unit": "fraction", "published": 0.5,
                 "figure": figure("r" * 32, 0.9), "words": EVIL, "lead": True},
            ],
            "runs": {"r" * 32: run},
        }
    )  # fmt: skip


class Outline(html.parser.HTMLParser):
    """What a page links to, and whether its elements are closed."""

    VOID = ("meta", "link", "img", "br", "input", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for key, value in attrs if key in ("href", "src")]
        self.ids += [value or "" for key, value in attrs if key == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"


def outline(text: str) -> Outline:
    parser = Outline()
    parser.feed(text)
    parser.close()
    return parser


def test_the_page_is_whole_and_loads_nothing(ledger: Ledger) -> None:
    text = page.render(ledger, UI)
    found = outline(text)
    assert not found.open
    assert not {"script", "link", "iframe", "img"} & set(found.tags)
    assert not re.search(r"url\(|@import", text)
    for link in found.links:
        assert link.startswith((f"{UI}/#/experiments/7/runs/", "#", "https://example.org/report"))
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    assert len(text) < 5_000_000


def test_what_runs_are_called_stays_text(ledger: Ledger) -> None:
    assert "<script" not in page.render(ledger, UI)
    assert "&lt;script&gt;" in page.render(ledger, UI)


def test_every_number_links_to_its_run_and_what_that_was(ledger: Ledger) -> None:
    found = outline(page.render(ledger, f"{UI}/"))
    for run in ledger.runs:
        assert f"{UI}/#/experiments/7/runs/{run}" in found.links
        assert f"run-{run}" in found.ids
        assert f"#run-{run}" in found.links


def test_the_head_and_the_counts_say_what_is_missing(ledger: Ledger) -> None:
    assert page.counts(ledger) == {"reproduced": 4, "not run yet": 2}
    assert page.counts(ledger, points=True) == {"reproduced": 4, "differs": 4, "not run yet": 2}
    assert page.settled(page.counts(ledger)) == pytest.approx(4 / 6)
    assert page.settled({"reproduced": 1, "fault in the report": 2, "differs": 1}) == 0.75
    assert page.settled({}) == 0
    columns, rows = page.head_table(ledger)
    assert len(columns) == len(rows[0])
    assert rows[1][2:] == ["none", "", "not run yet"]


def with_hypotheses(ledger: Ledger, *verdicts: str | None, words: str = "w") -> Ledger:
    made = [
        {"task": "grid", "dimension": "Filters", "quote": "q", "verdict": verdict, "words": words, "figure": ""}
        for verdict in verdicts
    ]
    return Ledger.model_validate(ledger.model_dump() | {"hypotheses": made})


def test_every_hypothesis_is_counted_on_the_cards(ledger: Ledger) -> None:
    kinds = ("supported", "contradicted", "no practical difference", "not decidable")
    text = page.render(with_hypotheses(ledger, *kinds, "supported", "supported"), UI)
    assert "3 of 6 hypotheses are supported." in text
    assert "1 hypothesis is contradicted, 1 without practical difference, 1 not decidable." in text
    assert "1 hypotheses" not in text
    assert "1 are" not in text
    two = page.render(with_hypotheses(ledger, "contradicted", "contradicted", "supported"), UI)
    assert "1 of 3 hypotheses is supported." in two
    assert "2 hypotheses are contradicted." in two


@pytest.mark.parametrize("why", ["not judged", "not run yet"])
def test_an_open_hypothesis_wears_the_reason(why: str, ledger: Ledger) -> None:
    text = page.render(with_hypotheses(ledger, None, words=f"{why}: `trackdl grid`"), UI)
    section = text.partition('<section id="hypotheses"')[2].partition("</section>")[0]
    assert re.findall(r'class="chip [^"]*"><span[^>]*>[^<]*</span>([^<]*)<', section) == [why]


def test_the_hypotheses_rule_stands_above_them(ledger: Ledger) -> None:
    text = page.render(ledger, UI)
    section = text.partition('<section id="hypotheses"')[2].partition("</section>")[0]
    assert SCOPE in html.unescape(section)
    assert f"margin of {spec.load(ROOT / 'experiments' / 'grid.yaml', GridSpec).margin:g} points" in section
    assert "Holm" in section
    assert "Holm" not in page.render(with_hypotheses(ledger), UI)


def test_a_table_of_which_nothing_is_known_is_shown(ledger: Ledger) -> None:
    (facts,) = ledger.runs.values()
    unknown = facts.model_copy(update={"data_digest": None, "version": ""})
    assert "not known" in page.render(ledger.model_copy(update={"runs": {"r" * 32: unknown}}), UI)


def test_the_committed_schema_is_the_models() -> None:
    assert ledger_schema.FILE.read_text(encoding="utf-8") == ledger_schema.render()


@given(
    st.lists(st.tuples(st.integers(0, 200), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30),
    st.booleans(),
    st.booleans(),
)
def test_every_chart_is_well_formed_and_inside_its_frame(
    points: list[tuple[int, float, float]], percent: bool, even: bool
) -> None:
    report = [charts.Point(epoch, value) for epoch, value, _ in points]
    ours = [charts.Point(epoch, value, value * 0.9, value) for epoch, _, value in points]
    tree = ElementTree.fromstring(charts.curves(EVIL, report, ours, "fraction" if percent else "loss", even=even))
    for mark in tree.iter("circle"):
        assert 0 <= float(mark.get("cx")) <= charts.WIDTH
        assert 0 <= float(mark.get("cy")) <= charts.HEIGHT
    places = sorted({epoch / 2 for epoch, *_ in points})
    values = [value for _, value, _ in points][: len(places)]
    for ours_too in (values, []):
        dense = ElementTree.fromstring(charts.dense(EVIL, places, values, ours_too, ours_too, ours_too))
        drawn = next(path.get("d") for path in dense.iter("path"))
        assert drawn.count("M") == len(places)
        for x, y in re.findall(r"M(\S+) (\S+)h0", drawn):
            assert 0 <= float(x) <= charts.WIDTH
            assert 0 <= float(y) <= charts.HEIGHT
    rows = [charts.DotRow(EVIL, value, other, 0, 1) for _, value, other in points]
    ElementTree.fromstring(charts.rows(EVIL, rows))


@given(st.floats(0, 10), st.floats(1e-6, 10))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    found = charts.ticks(low, low + span)
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in found)
    assert len(found) <= 6
