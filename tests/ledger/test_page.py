"""The ledger's page and schema: made of the data alone, whole in one file, and safe whatever a run is called."""

import html
import html.parser
import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import ROOT
from trackdl import spec
from trackdl.analysis.hypotheses import SCOPE
from trackdl.ledger import bundle, charts, page
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
    hypotheses = [{"task": "grid", "dimension": EVIL, "quote": EVIL, "verdict": "supported", "words": EVIL}]
    return Ledger.model_validate(
        {
            "report": REPORT, "experiments": EXPERIMENTS,
            "folder": "experiments", "version": "0.1", "commit": None, "environment": {}, "data": {}, "code": {},
            "made": "2026-01-01T00:00:00+00:00", "seeds": 1,
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


def test_in_a_bundle_every_link_is_a_file_beside_the_page(ledger: Ledger) -> None:
    (facts,) = ledger.runs.values()
    table = facts.model_copy(update={"experiment_id": "", "task": "grid"})
    fault = ledger.faults[0].model_copy(update={"runs": ["committed-grid"]})
    more = {"runs": ledger.runs | {"committed-grid": table}, "faults": [fault]}
    text = page.render(ledger.model_copy(update=more), None)
    links = {link for link in outline(text).links if not link.startswith(("#", "https://example.org"))}
    assert links == {f"runs/{'r' * 32}.zip", "experiments/results/grid.csv"}
    assert "127.0.0.1" not in text
    assert "<code>trackdl verify .</code>" in text.partition("<footer>")[2]
    assert "verify ." not in page.render(ledger, UI)


def test_a_printed_number_and_its_quote_lead_to_where_the_report_has_it(ledger: Ledger) -> None:
    first, *others = ledger.entries

    def links(address: str) -> list[str]:
        published = first.published.model_copy(update={"quote": "cell 17", "link": address})
        entry = first.model_copy(update={"published": published})
        found = outline(page.render(ledger.model_copy(update={"entries": [entry, *others]}), None))
        return [link for link in found.links if link == address]

    assert len(links("https://example.org/report/nine.ipynb#L9")) == 3  # twice the number, once the quote
    assert not links("javascript:alert(1)")
    assert not links("")


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
        {"task": "grid", "dimension": "Filters", "quote": "q", "verdict": verdict, "words": words}
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
    assert (ROOT / "docs" / "ledger" / "schema.json").read_text(encoding="utf-8") == bundle.schema()


@given(
    st.lists(st.tuples(st.integers(0, 200), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30),
    st.booleans(),
    st.booleans(),
)
def test_every_chart_is_well_formed_and_inside_its_frame(
    points: list[tuple[int, float, float]], percent: bool, log: bool
) -> None:
    report = [charts.Point(epoch, value) for epoch, value, _ in points]
    ours = [charts.Point(epoch, value, value * 0.9, value) for epoch, _, value in points]
    tree = ElementTree.fromstring(charts.curves(EVIL, report, ours, "fraction" if percent else "loss", log=log))
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
    rows = [charts.DotRow(EVIL, value, other, other * 0.9, other, "seeds") for _, value, other in points]
    for ladder in (True, False):
        for mark in ElementTree.fromstring(charts.rows(EVIL, rows, ladder=ladder)).iter("circle"):
            assert 0 <= float(mark.get("cx")) <= charts.SLIM


def places_of(chart: str, kind: str) -> list[float]:
    return [float(mark.get("cx")) for mark in ElementTree.fromstring(chart).iter("circle") if mark.get("class") == kind]


def test_epochs_are_where_they_belong() -> None:
    epochs = [1, 3, 5, 10, 168, 169, 170]
    report = [charts.Point(epoch, 0.5) for epoch in epochs]
    true = places_of(charts.curves("t", report, [], "loss", log=False), "ring")
    assert (true[1] - true[0]) / (true[-1] - true[0]) == pytest.approx(2 / 169, abs=1e-3)
    chart = charts.curves("t", report, [], "loss", log=True)
    places = places_of(chart, "ring")
    for place, epoch in zip(places, epochs, strict=True):
        assert (place - places[0]) / (places[-1] - places[0]) == pytest.approx(
            math.log(epoch) / math.log(170), abs=1e-3
        )
    labels = [mark.text for mark in ElementTree.fromstring(chart).iter("text")]
    assert labels[-1] == "epoch, on a logarithmic axis"
    assert labels[-6:-1] == ["1", "3", "5", "10", "170"]


def test_accuracies_that_are_close_have_an_axis_that_fits_and_says_so() -> None:
    close = [charts.DotRow("a", 0.898, 0.944, 0.94, 0.948, "10,000 examples")]
    chart = charts.rows("t", close, ladder=False)
    assert places_of(chart, "dot")[0] - places_of(chart, "ring")[0] > charts.SLIM / 2
    assert "the axis does not begin at 0" in chart
    assert "94.00\u00a0% to 94.80\u00a0% (10,000 examples)" in chart
    assert "does not begin" not in charts.rows("t", [charts.DotRow("a", None, 0.9, 0.1, 0.95, "folds")], ladder=False)


def test_a_ladder_goes_up_from_the_reports_number() -> None:
    steps = [charts.DotRow(name, 0.48, value, None, None, "none") for name, value in (("mended", 0.72), ("best", 0.88))]
    chart = charts.rows("t", steps, ladder=True)
    assert len(places_of(chart, "ring")) == 1
    assert places_of(chart, "ring") + places_of(chart, "dot") == sorted(
        places_of(chart, "dot") + places_of(chart, "ring")
    )
    assert "88.00\u00a0% (+16.00)" in chart
    assert "What the report prints" in chart


def with_beyond(ledger: Ledger, *values: float) -> Ledger:
    made = [
        {"task": "mnist", "title": f"step {value}", "unit": "fraction", "published": 0.5, "words": "", "lead": True,
         "figure": figure("r" * 32, value)} for value in values
    ]  # fmt: skip
    return Ledger.model_validate(ledger.model_dump() | {"beyond": made})


def test_only_what_goes_up_is_a_ladder(ledger: Ledger) -> None:
    assert "step by step" in page.render(with_beyond(ledger, 0.6, 0.7), UI)
    assert "step by step" not in page.render(with_beyond(ledger, 0.7, 0.6), UI)
    assert "step by step" not in page.render(with_beyond(ledger, 0.6), UI)


def card(text: str, title: str) -> str:
    return text.partition(f'<div class="card"><h3>{title}')[2].partition("</ul></div>")[0]


def test_the_cards_say_what_holds_what_does_not_and_why(ledger: Ledger) -> None:
    made = with_hypotheses(ledger, "supported", "contradicted").model_dump()
    contrast = {"high": "3", "low": "2", "mean": -5.0, "least": -6.0, "most": -4.0}
    made["hypotheses"][1]["contrasts"] = [contrast]
    made["entries"][1] |= {"verdict": "differs"}
    made["entries"][1]["published"]["unknown"] = "the split"
    fault = {"title": "No test", "task": "grid", "quote": "q", "words": "It is training. It is more.", "runs": []}
    other = fault | {"title": "Another"}
    made["entries"][0] |= {"verdict": "fault in the report"}
    made["entries"][0]["published"]["fault"] = "no test: it is training"
    text = page.render(Ledger.model_validate(made | {"faults": [fault, other]}), UI)
    holds, does_not = card(text, "What holds"), card(text, "What does not, and why")
    assert "chip supported" in holds
    assert "better" not in holds
    assert "chip contradicted" not in holds
    assert "3 against 2: -5.00 (-6.00 to -4.00) points of accuracy" in does_not
    assert "test accuracy, 1 of 6 <" in does_not
    assert "Not known: the split" in does_not
    assert "It is training." in does_not
    assert "It is more." not in does_not
    assert ">1 more fault</a>" in does_not
    assert "Another" not in does_not
    assert card(text, "What works better")


def test_what_the_ledger_leads_with_is_not_told_twice(ledger: Ledger) -> None:
    def told(*differing: int) -> str:
        made = ledger.model_dump()
        for place in differing:
            made["entries"][place]["verdict"] = "differs"
        return card(page.render(Ledger.model_validate(made), UI), "What does not, and why")

    assert told(0).count("chip differs") == 1
    assert "of 6" not in told(0)
    assert "test accuracy, 2 of 6" in told(0, 1)


def test_nothing_is_called_open(ledger: Ledger) -> None:
    visible = re.sub(r"<[^>]*>", " ", page.render(with_recovered(ledger), UI).partition("<body>")[2])
    assert not re.search(r"\bopen\b", visible)


def test_every_interval_of_the_head_says_what_it_is_over(ledger: Ledger) -> None:
    assert page.head_table(ledger)[1][0][3] == "5.00\u00a0% to 10.00\u00a0% (seeds)"
    entry = ledger.entries[0]
    examples = entry.figure.model_copy(update={"interval": "examples", "examples": 10_000})
    of_examples = ledger.model_copy(update={"entries": [entry.model_copy(update={"figure": examples})] * 6})
    assert page.head_table(of_examples)[1][0][3].endswith(" (10,000 examples)")


def test_all_contrasts_of_a_grid_are_in_one_chart_on_one_scale(ledger: Ledger) -> None:
    known = {"high": "3", "low": "2", "mean": -5.0, "least": -6.0, "most": -4.0}
    unknown = {"high": "<b>", "low": "1", "mean": 5.0, "least": None, "most": None}
    made = with_hypotheses(ledger, "contradicted", "not decidable", None).model_dump()
    for item, contrasts in zip(made["hypotheses"], ([known, known | {"mean": -4.5}], [unknown], []), strict=True):
        item["contrasts"] = contrasts
    hypotheses = Ledger.model_validate(made).hypotheses
    tree = ElementTree.fromstring(charts.forest(EVIL, hypotheses))
    first, second, third = (float(mark.get("cx")) for mark in tree.iter("circle"))
    low, high = (float(next(tree.iterfind(".//*[@class='interval']")).get(end)) for end in ("x1", "x2"))
    assert 0 <= low < first < second < high < third <= charts.SLIM
    # One point is as long for a hypothesis as for the other.
    assert (second - first) / 0.5 == pytest.approx((third - first) / 10, abs=0.3)
    band = next(tree.iterfind(".//*[@class='margin']"))
    assert float(band.get("width")) == pytest.approx(2 * 0.25 * (third - first) / 10, abs=0.1)
    words = [mark.text for mark in tree.iter("text")]
    assert words.count("3 against 2") == 2
    assert "+5.00" in words
    text = page.render(Ledger.model_validate(made), UI)
    section = text.partition('<section id="hypotheses"')[2].partition("</section>")[0]
    assert section.count("<svg viewBox") == 1
    assert "over pictures and seeds" in section


def with_recovered(ledger: Ledger) -> Ledger:
    points = [{"metric": "val_loss", "epoch": epoch, "series": "", "value": 0.5} for epoch in (1, 2, 3, 4)]
    common = {"weight": 0.5, "below": 0.0, "inside": 0.5, "gaps": {"val_loss": 0.0}}
    near, far = (
        {"values": {"network.padding": name}, "mean": [m] * 4, "low": [m - 0.1] * 4, "high": [m + 0.1] * 4} | common
        for name, m in (("<none>", 0.55), ("same", 0.9))
    )
    recovered = {
        "task": "mnist", "seeds": 5, "points": points, "effective": [2.0], "recognised": 9, "tried": 10,
        "candidates": [near, far], "words": "Padding: none.",
        "evidence": {"run": "r" * 32, "seed": 1, "artifacts": ["grid.csv"], "formula": "likelihood of candidates"},
    }  # fmt: skip
    return Ledger.model_validate(ledger.model_dump() | {"recovered": [recovered]})


def test_what_the_report_leaves_out_has_its_words_its_table_and_its_picture(ledger: Ledger) -> None:
    text = page.render(with_recovered(ledger), UI)
    assert not outline(text).open
    section = text.partition('<section id="left-out"')[2].partition("</section>")[0]
    assert "Padding: none." in section
    assert len(re.findall("<tr>", section)) == 3
    assert f"{UI}/#/experiments/7/runs/{'r' * 32}" in section
    drawn = re.search(r'<figure class="whole">(.*?)</figure>', section)[1]
    kinds = [(mark.get("class"), mark.get("d").count("M")) for mark in ElementTree.fromstring(drawn).iter("path")]
    assert kinds == [("ring", 4), ("out", 4)]
    assert 'href="#left-out"' in text
    assert "left-out" not in page.render(ledger, UI)


def test_every_panel_of_a_recovery_has_its_band(ledger: Ledger) -> None:
    (found,) = with_recovered(ledger).recovered
    accuracies = [
        one.model_copy(update={"metric": "val_accuracy", "series": "another", "epoch": one.epoch + 3})
        for one in found.points
    ]
    candidates = [
        one.model_copy(update={name: getattr(one, name) * 2 for name in ("mean", "low", "high")})
        for one in found.candidates
    ]
    both = found.model_copy(update={"points": [*found.points, *accuracies], "candidates": candidates})
    bands = [mark.get("points") for mark in ElementTree.fromstring(charts.recovery(both, "t")).iter("polygon")]
    assert [len(band.split()) for band in bands] == [8] * 4


def with_confusion(ledger: Ledger, *counts: list[int]) -> Ledger:
    names = [EVIL, *(f"class {number}" for number in range(1, len(counts)))]
    evidence = {"run": "r" * 32, "seed": 1, "artifacts": ["a", "classes.json"], "formula": "confusion of classes"}
    confusion = {"entry": 0, "classes": names, "counts": list(counts), "evidence": [evidence]}
    return Ledger.model_validate(ledger.model_dump() | {"confusions": [confusion]})


def test_a_confusion_has_the_share_of_each_class_and_fits_into_its_picture(ledger: Ledger) -> None:
    whole = with_confusion(ledger, [90, 10], [0, 50])
    text = page.render(whole, UI)
    assert not outline(text).open
    drawn = re.search(r"mistaken for which</h2>.*?(<svg.*?</svg>)", text, re.DOTALL)[1]
    tree = ElementTree.fromstring(drawn)
    assert [mark.text for mark in tree.iter("text") if mark.text in ("90", "10", "0", "100", "50")] == [
        "90",
        "10",
        "100",
    ]
    kinds = [mark.get("class") for mark in tree.iter("rect")]
    assert kinds == ["cell", "cell wrong", "cell"]
    edges = [float(mark.get("x")) + float(mark.get("width")) for mark in tree.iter("rect")]
    assert max(edges) <= charts.SLIM
    assert "mistaken for which" not in page.render(ledger, UI)
    with pytest.raises(ValueError, match="not a square"):
        with_confusion(ledger, [1, 2], [3])


def with_everything(ledger: Ledger) -> Ledger:
    made = with_recovered(with_hypotheses(with_confusion(ledger, [9, 1], [2, 8]), "contradicted")).model_dump()
    made["hypotheses"][0]["contrasts"] = [{"high": "3", "low": "2", "mean": -5.0, "least": -6.0, "most": -4.0}]
    return Ledger.model_validate(made)


def test_the_markdown_shows_every_picture_and_nothing_else(ledger: Ledger) -> None:
    whole = with_everything(ledger)
    text, drawn = page.markdown(whole), page.pictures(whole)
    assert sorted(re.findall(r"!\[[^\]]*\]\(pictures/([^)]*)\.svg\)", text)) == sorted(drawn)
    kinds = {name.partition("-")[0] for name in drawn}
    assert kinds == {"verdicts", "curve", "confusion", "left", "hypotheses", "beyond"}
    assert {"ledger.html", "ledger.json"} == set(re.findall(r"(?<!!)\[[^\]]*\]\(([^)]*)\)", text))
    assert "`trackdl verify docs/ledger`" in text
    assert "| q | contradicted | 3 against 2: -5.00 (-6.00 to -4.00) |" in text
    assert "padding &lt;none&gt;" in text
    assert "finds how that was done 9 times" in text
    assert "<" not in text
    bare = ledger.model_copy(update={"hypotheses": [], "beyond": [], "curves": [], "entries": ledger.entries[:1] * 6})
    assert [line for line in page.markdown(bare).splitlines() if line.startswith("#")] == [
        f"# The ledger: {html.escape(EVIL, quote=False)}"
    ]


def test_a_markdown_table_is_safe_whatever_a_cell_holds() -> None:
    assert page.table(["a"], [["1|2\n<b>"]]).splitlines() == ["| a |", "| --- |", "| 1&#124;2 &lt;b&gt; |"]


def test_a_picture_stands_alone_in_light_and_dark(ledger: Ledger) -> None:
    for name, picture in page.pictures(with_everything(ledger)).items():
        tree = ElementTree.fromstring(picture)
        style = tree.find("{*}style").text
        assert "prefers-color-scheme: dark" in style
        assert not re.search(r"url\(|@import|@font-face", style)
        assert {word for mark in tree.iter() for word in mark.attrib if "href" in word} == set()
        assert tree.get("viewBox").split()[2:] == [tree.get("width"), tree.get("height")]
        title = " ".join(mark.text for mark in tree.iterfind("{*}text") if mark.get("class") == "name")
        assert title == tree.get("aria-label"), name
        kinds = {kind for mark in tree.iter() for kind in (mark.get("class") or "").split()}
        assert {kind for kind in kinds if f".{kind} " not in style and f".{kind}[" not in style} == set(), name


@given(st.floats(0, 10), st.floats(1e-6, 10))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    found = charts.ticks(low, low + span)
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in found)
    assert len(found) <= 6
