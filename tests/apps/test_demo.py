"""The page to try the models on: in a real browser, with a drawing made by the test, and asked directly."""

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image

from support.browser import needs_browser
from support.pictures import arrays_of
from support.served import (
    GREEK,
    ROW,
    add_heart,
    add_pictures,
    ask,
    card,
    colour_model,
    content,
    heart_model,
    letter,
    network,
)
from support.stripes import learn, report
from tools.screens import draw, opened, served
from trackdl.apps import demo
from trackdl.apps.demo import DemoModel
from trackdl.apps.learnt import Images
from trackdl.apps.serve import listening
from trackdl.data.download.datasets import DATASETS
from trackdl.errors import InputError
from trackdl.serving import ServedImages, ServedTable

DIGITS = tuple("0123456789")
HERE = {"host": "127.0.0.1:7860"}
LETTERS = ("alpha", "beta", "gamma")


def example(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (28, 28), dtype=np.uint8))


@dataclass
class Learnt:
    """Stands for the training images of every model: 12 examples, which are read once `gate` is open.

    Those of a model of Greek letters are said to be synthetic.
    """

    reads: int = 0
    gate: threading.Event = field(default_factory=threading.Event)

    def read(self, _run_id: str, served: ServedImages, *, tested: bool) -> Images:
        assert not tested
        self.reads += 1
        assert self.gate.wait(60)
        pixels = torch.tensor(np.stack([example(seed) for seed in range(12)]))
        if served.card.colour:
            pixels = pixels[:, None, : served.card.size, : served.card.size].repeat(1, 3, 1, 1)
        labels = torch.arange(12) % len(served.card.classes)
        synthetic = tuple(served.card.classes) == GREEK
        return Images(pixels, labels, pixels[:0], labels[:0], unseen=True, synthetic=synthetic)


@pytest.fixture
def learnt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Learnt]:
    stand_in = Learnt()
    stand_in.gate.set()
    monkeypatch.setattr(demo.learnt, "read", stand_in.read)
    yield stand_in
    stand_in.gate.set()


def models() -> list[DemoModel]:
    digits = ServedImages(network(), card(DIGITS).model_copy(update={"least_energy": 1e6}))
    greek = ServedImages(network(3, seed=1), card(GREEK, "report"))
    return [
        DemoModel("mnist-cnn", "4", "test accuracy 98.18 %", digits, examples=[example(0), example(1)]),
        DemoModel("greek-cnn", "2", "validation accuracy 96.30 %", greek),
        DemoModel("heart-mlp", "1", "", ServedTable(*heart_model()), examples=[ROW | {"Age": 77}]),
        DemoModel("fashion-cnn", "1", "", problem="its files are not those that were registered"),
    ]


@pytest.fixture
def page_at(learnt: Learnt) -> Iterator[str]:  # noqa: ARG001
    with served(demo.build(models(), ["127.0.0.1"])) as address:
        yield address


SEVEN = [(0.25, 0.2), (0.75, 0.2), (0.45, 0.85)]
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True}


def answered(page: Any) -> Any:
    """Wait until the page shows the answer to what it shows, and return that answer."""
    page.locator("#best .label").wait_for()
    page.locator("#answer[aria-busy=false]").wait_for()
    return page.locator("#best")


@pytest.mark.slow
@needs_browser
def test_one_answer_first_and_others_when_asked(page_at: str) -> None:
    with opened() as page:
        page.goto(page_at)
        page.get_by_text("Draw a digit here").wait_for()
        assert page.locator("#model option").all_inner_texts() == [
            "digit – mnist-cnn",
            "letter – greek-cnn",
            "HeartDisease – heart-mlp",
        ]
        assert "not those that were registered" in page.locator("#problems").inner_text()
        assert "The model knows 0, 1, 2" in page.locator("#best").inner_text()
        draw(page, SEVEN)
        best = answered(page)
        assert best.locator(".label").count() == 1
        assert best.locator(".bars li").count() == 10
        assert best.locator(".label").inner_text() == best.locator(".bars .best span").inner_text()
        assert "probability" in best.inner_text()
        assert "unlike what the network has learnt" in best.inner_text()
        page.locator("#spoken", has_text="probability").wait_for(state="attached")
        assert not page.get_by_text("beta").count()
        page.get_by_text("What other models answer").click()
        other = page.locator(".other")
        other.wait_for()
        assert other.inner_text().startswith("greek-cnn ")
        page.select_option("#model", "greek-cnn")
        page.locator(".bars li", has_text="gamma").wait_for()
        assert answered(page).locator(".label").inner_text() in LETTERS
        page.get_by_role("button", name="Clear").click()
        assert page.locator(".label").count() == 0
        assert page.get_by_role("button", name="Undo").is_disabled()
        assert not page.errors
        assert not page.foreign


@needs_browser
def test_the_answer_comes_while_one_draws_by_one_request_at_a_time(page_at: str) -> None:
    with opened() as page:
        flying: list[int] = [0]
        most: list[int] = []

        def count(request: Any, step: int) -> None:
            if "/look" in request.url:
                flying[0] += step
                most.append(flying[0])

        page.on("request", lambda request: count(request, 1))
        page.on("requestfinished", lambda request: count(request, -1))
        page.goto(page_at)
        page.get_by_text("Draw a digit here").wait_for()
        box = page.locator("#paper").bounding_box()
        page.mouse.move(box["x"] + 80, box["y"] + 80)
        page.mouse.down()
        for step in range(12):
            page.mouse.move(box["x"] + 80 + 18 * step, box["y"] + 80)
            page.wait_for_timeout(30)
        page.locator("#best .label").wait_for()  # before the pen is lifted
        page.mouse.move(box["x"] + 120, box["y"] + 330, steps=10)
        page.mouse.up()
        answered(page)
        assert max(most) == 1
        assert len(most) >= 4


def ink(page: Any) -> int:
    found: int = page.evaluate(
        "() => { const c = document.getElementById('paper');"
        " return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v) => v < 99).length }"
    )
    return found


@needs_browser
def test_pen_eraser_width_and_undo(page_at: str) -> None:
    with opened() as page:
        page.goto(page_at)
        page.get_by_text("Draw a digit here").wait_for()
        draw(page, SEVEN)
        thin = ink(page)
        page.get_by_role("button", name="Clear").click()
        assert ink(page) == 0
        page.get_by_label("Pen width").fill("48")
        draw(page, SEVEN)
        wide = ink(page)
        assert wide > 1.5 * thin
        page.get_by_role("button", name="Eraser").click()
        draw(page, [(0.25, 0.2), (0.75, 0.2)])
        assert 0 < ink(page) < wide
        page.get_by_role("button", name="Undo").click()
        assert ink(page) == wide
        page.get_by_role("button", name="Undo").click()
        assert ink(page) == 0
        # Nothing is left to erase, so that a pen is at hand again.
        assert page.get_by_role("button", name="Pen").get_attribute("aria-pressed") == "true"


@needs_browser
def test_the_keyboard_draws_too(page_at: str) -> None:
    with opened() as page:
        page.goto(page_at)
        page.get_by_text("Draw a digit here").wait_for()
        page.locator("#paper").focus()
        for _ in range(6):
            page.keyboard.press("ArrowUp")
        for _ in range(12):
            page.keyboard.press("Shift+ArrowDown")
        answered(page)
        page.keyboard.press("Delete")
        assert page.locator(".label").count() == 0
        assert not page.errors


@needs_browser
def test_a_picture_is_answered_and_what_is_none_is_said(page_at: str, tmp_path: Path) -> None:
    (tmp_path / "letter.jpg").write_bytes(content(letter(), "JPEG"))
    (tmp_path / "letter.svg").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "blank.png").write_bytes(content(Image.new("L", (60, 60), 255)))
    with opened() as page:
        page.goto(page_at)
        page.get_by_text("Draw a digit here").wait_for()
        page.set_input_files("#file", tmp_path / "letter.jpg")
        answered(page)
        assert ink(page) > 0
        page.set_input_files("#file", tmp_path / "letter.svg")
        page.locator("#message.wrong", has_text="not an image that can be read").wait_for()
        assert page.locator(".label").count() == 0
        page.set_input_files("#file", tmp_path / "blank.png")
        page.locator("#message.wrong", has_text="no ink").wait_for()


@needs_browser
def test_a_picture_can_be_pasted_and_dropped(page_at: str) -> None:
    give = """(name) => { const canvas = document.createElement('canvas'); canvas.width = canvas.height = 90;
        const pen = canvas.getContext('2d'); pen.fillStyle = '#fff'; pen.fillRect(0, 0, 90, 90); pen.fillStyle = '#000';
        pen.fillRect(40, 15, 10, 60); canvas.toBlob((blob) => { const data = new DataTransfer();
        data.items.add(new File([blob], 'one.png', { type: 'image/png' }));
        document.dispatchEvent(name === 'drop' ? new DragEvent(name, { dataTransfer: data })
            : new ClipboardEvent(name, { clipboardData: data })); }); }"""
    with opened() as page:
        page.goto(page_at)
        for name in ("paste", "drop"):
            page.get_by_text("Draw a digit here").wait_for()
            page.evaluate(give, name)
            answered(page)
            page.get_by_role("button", name="Clear").click()
        assert not page.errors


@pytest.mark.slow
@needs_browser
def test_several_signs_are_shown_one_by_one(page_at: str) -> None:
    with opened() as page:
        page.goto(page_at)
        page.get_by_text("Draw a digit here").wait_for()
        for left in (0.15, 0.5, 0.85):
            draw(page, [(left, 0.3), (left + 0.02, 0.7)])
        page.locator("#signs button").nth(2).wait_for()
        answered(page)
        page.get_by_text("What the network sees").click()
        page.locator("#inside canvas").first.wait_for()
        page.locator("#signs button").nth(1).click()
        answered(page)
        assert page.locator("#signs button[aria-pressed=true]").count() == 1
        assert page.locator("#signs button").nth(1).get_attribute("aria-pressed") == "true"
        assert not page.errors


@pytest.mark.slow
@needs_browser
def test_an_example_is_answered_and_what_the_network_sees_is_shown(page_at: str, learnt: Learnt) -> None:
    learnt.gate.clear()
    with opened() as page:
        sent: list[str] = []
        page.on("request", lambda request: sent.append(urlsplit(request.url).path))
        page.goto(page_at)
        page.get_by_role("button", name="Example 2").click()
        answered(page)
        page.get_by_text("What the network sees").click()
        page.get_by_label("The network's input, 28×28 pixels").wait_for()
        tones = page.get_by_label("The network's input").evaluate(
            "c => [...c.getContext('2d').getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 == 0)"
        )
        assert tones == np.asarray(example(1)).ravel().tolist()
        assert page.locator("#inside .maps canvas").count() == 10
        assert "Where it looked" in page.locator("#inside").inner_text()
        page.get_by_text("Computing which training images are nearest").wait_for()
        before = sent.count("/look")
        for _ in range(2):
            with page.expect_response("**/computing?*"):
                pass
        assert sent.count("/look") == before, "the image is not sent again meanwhile"
        with page.expect_request("**/look?*"):  # which says what is wrong, if it still is
            page.route("**/computing?*", lambda route: route.fulfill(status=404, json={"error": "gone"}), times=1)
        page.errors.clear()  # the browser's own, about the 404
        learnt.gate.set()
        page.get_by_text("Compared with all 12 training images").wait_for()
        assert page.locator(".near canvas").count() == 5
        assert page.locator(".near figcaption").first.inner_text() == "1, 0", "the example was one of them"
        assert not page.get_by_text("Computing which").count()
        assert not page.get_by_text("SYNTHETIC").count()
        page.select_option("#model", "greek-cnn")
        draw(page, SEVEN)
        page.get_by_text("These are SYNTHETIC: letters drawn from fonts.").wait_for()
        assert not page.errors


@needs_browser
def test_a_form_asks_the_model_of_a_table(page_at: str) -> None:
    from playwright.sync_api import expect

    with opened() as page:
        page.goto(page_at)
        page.get_by_text("Draw a digit here").wait_for()
        page.select_option("#model", "heart-mlp")
        first = answered(page).inner_text()
        assert "probability" in first
        assert page.locator("#row label").count() == len(ROW)
        assert page.get_by_role("spinbutton", name="Age").input_value() == "77"
        assert page.get_by_label("ST_Slope").locator("option").all_inner_texts() == ["Down", "Flat", "Up"]
        assert not page.locator("#paper").is_visible()
        page.get_by_text("What the network sees").click()
        page.get_by_text("This model takes a row of a table").wait_for()
        page.get_by_label("ST_Slope").select_option("Up")
        expect(page.locator("#best")).not_to_have_text(first, use_inner_text=True, timeout=60_000)
        page.get_by_role("spinbutton", name="Age").fill("1000")
        page.locator("#message.wrong", has_text="Age").wait_for()
        assert page.locator(".label").count() == 0
        page.get_by_role("button", name="Example 1").click()
        assert answered(page).inner_text() == first
        page.select_option("#model", "mnist-cnn")
        page.get_by_text("Draw a digit here").wait_for()


@needs_browser
def test_a_missing_camera_is_said(page_at: str) -> None:
    with opened(permissions=["camera"]) as page:
        page.goto(page_at)
        page.get_by_role("button", name="Camera…").click()
        page.locator("#message.wrong", has_text="There is no camera").wait_for()


@needs_browser
def test_the_answer_is_busy_from_the_stroke_on_until_it_is_that_of_the_drawing(page_at: str) -> None:
    with opened() as page:
        page.goto(page_at)
        page.get_by_text("Draw a digit here").wait_for()
        draw(page, SEVEN)
        answered(page)
        page.evaluate("""() => {
            const [paper, answer] = ["paper", "answer"].map(id => document.getElementById(id));
            window.busy = [];
            window.shown = null;
            new MutationObserver(() => { window.shown = answer.ariaBusy; })
                .observe(document.getElementById("best"), { childList: true });
            for (const name of ["pointerdown", "pointerup"])
                paper.addEventListener(name, () => busy.push(answer.ariaBusy));
        }""")
        draw(page, SEVEN[1:])
        assert page.evaluate("busy") == ["true", "true"]
        answered(page)
        assert page.evaluate("window.shown") is not None
        page.evaluate("window.shown = null")
        page.wait_for_timeout(500)
        assert page.evaluate("window.shown") is None, "the answer changed after it was said to be complete"


@needs_browser
def test_what_is_half_drawn_is_not_spoken(page_at: str) -> None:
    with opened() as page:
        page.clock.install()
        page.goto(page_at)
        page.get_by_text("Draw a digit here").wait_for()
        page.clock.pause_at(page.evaluate("Date.now()") + 60_000)
        waiting: list[Any] = []
        page.route("**/look?*", lambda route: waiting.append(route))
        box = page.locator("#paper").bounding_box()
        page.mouse.move(box["x"] + 90, box["y"] + 90)
        page.mouse.down()
        page.mouse.move(box["x"] + 90, box["y"] + 300, steps=5)
        with page.expect_request("**/look?*"):
            page.clock.run_for(100)
        page.mouse.move(box["x"] + 290, box["y"] + 300, steps=5)
        page.mouse.up()
        waiting.pop().continue_()
        page.locator("#best .label").wait_for()
        assert not page.locator("#spoken").inner_text()
        page.unroute("**/look?*")
        page.clock.run_for(100)
        page.locator("#spoken", has_text="probability").wait_for(state="attached")


@needs_browser
def test_a_proxys_error_and_examples_of_a_demo_that_is_gone_are_said(page_at: str) -> None:
    with opened() as page:
        page.goto(page_at)
        page.get_by_text("Draw a digit here").wait_for()
        page.route("**/look?*", lambda route: route.fulfill(status=502, json={"error": "bad gateway"}), times=1)
        page.get_by_role("button", name="Example 1").click()
        page.locator("#message.wrong", has_text="The demo does not answer").wait_for()
        draw(page, SEVEN)
        answered(page)
        page.errors.clear()  # the browser's own, about the 502
        page.route("**/*", lambda route: route.abort())
        page.get_by_role("button", name="Example 2").click()
        page.locator("#message.wrong", has_text="The demo does not answer").wait_for()
        assert not [error for error in page.errors if "Failed to load resource" not in error]


@pytest.mark.slow
@needs_browser
def test_on_a_phone_the_answer_is_beside_the_paper(page_at: str) -> None:
    with opened(**PHONE) as page:
        page.goto(page_at)
        page.get_by_text("Draw a digit here").wait_for()
        draw(page, SEVEN)
        answered(page)
        paper, label = (page.locator(name).bounding_box() for name in ("#paper", "#best .label"))
        assert paper["y"] >= 0
        assert label["y"] + label["height"] <= 740
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(page_at: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def check(page: Any) -> None:
        found = axe.run(page)
        assert not found.violations_count, found.generate_report()

    with opened(color_scheme=scheme, **PHONE) as page:
        page.goto(page_at)
        page.get_by_text("Draw a digit here").wait_for()
        check(page)
        draw(page, SEVEN)
        answered(page)
        page.get_by_text("What the network sees").click()
        page.locator(".near canvas").first.wait_for()
        page.get_by_text("What other models answer").click()
        page.locator(".other").wait_for()
        check(page)
        page.select_option("#model", "heart-mlp")
        answered(page)
        check(page)
        page.get_by_role("spinbutton", name="Age").fill("1000")
        page.locator("#message.wrong").wait_for()
        check(page)


@needs_browser
def test_without_models_the_page_says_what_to_do() -> None:
    with served(demo.build([], ["127.0.0.1"])) as address, opened() as page:
        page.goto(address)
        page.get_by_text("No model is registered yet").wait_for()
        assert not page.locator("#paper").is_visible()


def test_the_page_is_asked_by_its_own_name_only() -> None:
    app = demo.build(models(), ["127.0.0.1"])
    picture = content(letter())
    row = {"dataframe_records": [ROW]}
    status, said = ask(app, picture, "image/png", "/look", headers=HERE)
    assert status == 200
    assert [answer["name"] for answer in said] == ["mnist-cnn", "greek-cnn"]
    assert len(said[0]["signs"][0]["shown"]) == 784
    assert ask(app, picture, "image/png", "/look", headers={"host": "evil.example"})[0] == 403
    assert ask(app, row, path="/row", headers={"host": "evil.example"})[0] == 403
    assert ask(app, b"", None, "/", "GET", headers={"host": "evil.example"})[0] == 403
    for origin, expected in (("http://127.0.0.1:7860", 200), ("http://evil.example", 403), ("null", 403)):
        assert ask(app, picture, "image/png", "/look", headers=HERE | {"origin": origin})[0] == expected
        assert ask(app, row, path="/row", headers=HERE | {"origin": origin})[0] == expected
    for kind in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded", None):
        assert ask(app, picture, kind, "/look", headers=HERE)[0] == 415
        assert ask(app, row, kind, "/row", headers=HERE)[0] == 415
    assert ask(app, b"no picture", "image/png", "/look", headers=HERE)[0] == 400
    status, said = ask(app, b" " * (demo.MAX_BYTES + 1), "image/png", "/look", headers=HERE, chunk=2**20)
    assert (status, "20,971,520 bytes" in said["message"]) == (413, True)


def look(app: Any, picture: bytes, query: str) -> tuple[int, Any]:
    return ask(app, picture, "image/png", "/look", headers=HERE, query=query)


@pytest.mark.usefixtures("learnt")
def test_a_request_names_its_models_and_what_it_wants_to_see() -> None:
    app = demo.build(models(), ["127.0.0.1"])
    picture = content(letter())
    status, (greek, digits) = look(app, picture, "model=greek-cnn&model=mnist-cnn&inside=0")
    assert (status, greek["name"], digits["name"]) == (200, "greek-cnn", "mnist-cnn")
    inside = greek["signs"][0]["inside"]
    assert (len(inside["maps"]), len(inside["maps"][0]), inside["channels"]) == (10, 24 * 24, 10)
    assert max(abs(share) for share in np.ravel(inside["shares"])) == 100
    assert inside["runner_up"] in set(LETTERS) - {greek["signs"][0]["label"]}
    assert "inside" not in digits["signs"][0]
    for query, status in (
        ("model=fashion-cnn", 404),
        ("model=heart-mlp", 404),
        ("model=mnist-cnn&example=2", 400),
        ("model=mnist-cnn&example=-1", 400),
        ("model=greek-cnn&example=0", 400),
        ("model=mnist-cnn&inside=x", 400),
        ("model=mnist-cnn&inside=1000", 400),
    ):
        assert look(app, picture, query)[0] == status, query


def test_an_example_is_what_the_network_sees() -> None:
    status, (answer,) = look(demo.build(models(), ["127.0.0.1"]), b"", "model=mnist-cnn&example=1")
    assert status == 200
    assert answer["signs"][0]["shown"] == np.asarray(example(1)).ravel().tolist()


def nearest(app: Any, query: str, picture: bytes = b"") -> dict[str, Any]:
    """Ask for the nearest training images until they are computed."""
    for _ in range(600):
        status, (answer,) = look(app, picture, query)
        assert status == 200
        found: dict[str, Any] = answer["signs"][0]["inside"]["nearest"]
        if "computing" not in found:
            return found
        time.sleep(0.1)
    pytest.fail("they are computed for a minute")


def test_the_nearest_training_image_of_a_training_image_is_itself(learnt: Learnt) -> None:
    app = demo.build(models(), ["127.0.0.1"])
    found = nearest(app, "model=mnist-cnn&example=1&inside=0")
    first = found["images"][0]
    assert first["distance"] == pytest.approx(0, abs=1e-4)
    assert (first["label"], first["shown"]) == ("1", np.asarray(example(1)).ravel().tolist())
    assert (found["compared"], found["total"], found["size"], found["synthetic"]) == (12, 12, 28, False)
    distances = [one["distance"] for one in found["images"]]
    assert distances == sorted(distances)
    assert distances[1] > 1e-3
    assert nearest(app, "model=greek-cnn&inside=0", content(letter()))["images"][0]["label"] in GREEK
    assert learnt.reads == 2, "once for each model"


def test_an_error_beside_leaves_the_other_insides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_compared", lambda model: {}[model.name])
    app = demo.build(models(), ["127.0.0.1"])
    assert (
        "After a restart, `trackdl demo` tries again" in nearest(app, "model=mnist-cnn&example=1&inside=0")["problem"]
    )
    status, (answer,) = look(app, b"", "model=mnist-cnn&example=1&inside=0")
    assert status == 200
    assert answer["signs"][0]["inside"]["maps"]


def test_other_machines_see_no_training_image(learnt: Learnt) -> None:
    app = demo.build(models(), ["0.0.0.0"], shows_training=False)
    assert "private" in nearest(app, "model=mnist-cnn&example=1&inside=0")["problem"]
    assert learnt.reads == 0


def test_training_images_are_read_once_while_requests_are_answered(learnt: Learnt) -> None:
    learnt.gate.clear()
    with served(demo.build(models(), ["127.0.0.1"])) as address, ThreadPoolExecutor(4) as pool:

        def ask_for(query: str) -> dict[str, Any]:
            request = urllib.request.Request(f"{address}/look?model=mnist-cnn&{query}", b"")
            request.add_header("content-type", "image/png")
            with urllib.request.urlopen(request) as response:
                sign: dict[str, Any] = json.load(response)[0]["signs"][0]
            return sign

        signs = list(pool.map(ask_for, ["example=0&inside=0", "example=1&inside=0", "example=0"] * 4))
        assert all(sign["inside"]["nearest"] == {"computing": True} for sign in signs if "inside" in sign)
        assert [sign["label"] for sign in signs if "inside" not in sign]
        learnt.gate.set()
        while "computing" in (found := ask_for("example=0&inside=0")["inside"]["nearest"]):
            time.sleep(0.1)
        assert found["images"][0]["label"] == "0"
    assert learnt.reads == 1


def test_a_registered_networks_training_images_are_found(
    tracking: str,  # noqa: ARG001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = report(tmp_path, monkeypatch)
    learn(folder, {"layers": ["flatten", {"dense": 8}, "relu", {"dense": "classes"}]}, colour=True)
    pixels = arrays_of(folder / "rows.npz")["x_train"]
    picture = content(Image.fromarray(pixels[4]))
    app = demo.build(demo.load(), ["127.0.0.1"])
    first = nearest(app, "inside=0", picture)["images"][0]
    assert (first["label"], first["shown"]) == ("1", pixels[4].ravel().tolist())
    (folder / "rows.npz").unlink()
    assert "images" in nearest(app, "inside=0", picture), "they are kept in memory"
    gone = nearest(demo.build(demo.load(), ["127.0.0.1"]), "inside=0", picture)
    assert "rows.npz: cannot be read (No such file or directory)" in gone["problem"]


@pytest.mark.usefixtures("tracking")
def test_a_data_set_that_is_not_here_is_said_and_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKDL_DATA_DIR", str(tmp_path / "empty"))
    monkeypatch.setitem(DATASETS, "mnist", replace(DATASETS["mnist"], sources=lambda: pytest.fail("mnist is fetched")))
    add_pictures("mnist-cnn")
    found = nearest(demo.build(demo.load(), ["127.0.0.1"]), "inside=0", content(letter()))
    assert "the data set mnist is not on this machine" in found["problem"]


def test_a_row_is_checked_as_by_the_server() -> None:
    app = demo.build(models(), ["127.0.0.1"])
    status, (answer,) = ask(app, {"dataframe_records": [ROW]}, path="/row", headers=HERE)
    assert status == 200
    assert sum(answer["signs"][0]["probabilities"].values()) == pytest.approx(1)
    for body, status, words in (
        ({"dataframe_records": [ROW | {"Age": "old"}]}, 400, "Age"),
        ({"dataframe_records": [ROW, ROW]}, 413, "2 items"),
        ({"dataframe_records": []}, 400, "no rows"),
        ({"inputs": [1]}, 400, "rows of named columns"),
        ("[" * 1000, 400, "nested"),
        (" " * 2**17, 413, "bytes"),
    ):
        got, said = ask(app, body, path="/row", headers=HERE)
        assert got == status, body
        assert words in said["message"]


def test_each_model_is_shown_what_it_saw_at_its_own_size_and_colours() -> None:
    both = [*models(), DemoModel("flags", "1", "", colour_model())]
    app = demo.build(both, ["127.0.0.1"])
    red = content(Image.new("RGB", (40, 40), (200, 10, 30)))
    status, said = ask(app, red, "image/png", "/look", headers={"host": "127.0.0.1"})
    assert status == 200
    assert (said[-1]["name"], said[-1]["size"]) == ("flags", 12)
    assert said[-1]["signs"][0]["shown"] == [200, 10, 30] * 144


@pytest.mark.slow
@needs_browser
@pytest.mark.usefixtures("learnt")
def test_the_page_paints_colours() -> None:
    with served(demo.build([DemoModel("flags", "1", "", colour_model())], ["127.0.0.1"])) as address, opened() as page:
        page.goto(address)
        page.get_by_text("Draw here").wait_for()
        draw(page, SEVEN)
        answered(page)
        page.get_by_text("What the network sees").click()
        shown = page.get_by_label("The network's input, 12×12 pixels")
        shown.wait_for()
        assert shown.evaluate("c => [c.width, c.height]") == [12, 12]
        page.locator(".near canvas").first.wait_for()
        assert not page.errors


def test_the_page_names_what_a_model_knows() -> None:
    def knows(*classes: str, preprocessing: str = "mnist") -> str:
        demo_model = DemoModel("m", "1", "", ServedImages(network(len(classes)), card(classes, preprocessing)))
        said: list[dict[str, str]] = ask(demo.build([demo_model], []), b"", None, "/models", "GET")[1]
        return said[0]["knows"]

    assert knows(*DIGITS) == "digit"
    assert knows(*GREEK) == "letter"
    assert knows("a", "B", "7") == "digit or letter"
    assert knows("Coat", "Bag", preprocessing="fashion") == "garment"
    assert knows("cat", "dog", "cow", "hen", preprocessing="square") == "cat, dog, cow, …"


@pytest.mark.usefixtures("tracking")
def test_registered_examples_and_scores_are_loaded() -> None:
    add_pictures("mnist-cnn")
    add_heart(Cholesterol=float("nan"))
    digits, heart = demo.load()
    assert (digits.score, heart.score) == ("validation accuracy 90.00 %", "cross-validated accuracy 90.00 %")
    assert [np.asarray(one).tolist() for one in digits.examples] == [np.zeros((28, 28)).tolist()]
    assert set(heart.examples[0]) == set(ROW)
    status, (_, said) = ask(demo.build([digits, heart], []), b"", None, "/models", "GET")
    assert (status, said["examples"][0]["Cholesterol"]) == (200, None)


@pytest.mark.usefixtures("tracking")
def test_the_browser_opens_only_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    opened_at: list[str] = []
    monkeypatch.setattr(demo.webbrowser, "open", opened_at.append)
    monkeypatch.setattr(demo, "run", lambda *_: None)
    demo.serve("127.0.0.1", 0)
    assert not opened_at
    demo.serve("127.0.0.1", 0, browse=True)
    assert opened_at[0].startswith("http://127.0.0.1:")


@pytest.mark.usefixtures("tracking")
def test_a_demo_that_others_can_reach_shows_no_training_image(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[bool] = []
    monkeypatch.setattr(demo, "build", lambda *_, shows_training: shown.append(shows_training))
    monkeypatch.setattr(demo, "run", lambda *_: None)
    demo.serve("127.0.0.1", 0)
    demo.serve("127.0.0.1", 0, ["demo.example.org"])  # a proxy asks for others
    demo.serve("0.0.0.0", 0)
    assert shown == [True, False, False]


def test_no_file_of_the_page_names_another_machine() -> None:
    for path in demo.PAGE.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text.replace("httpEquiv", ""), path


def test_a_taken_port_is_said() -> None:
    with listening("127.0.0.1", 0) as (listener, _):
        port = listener.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port}"), listening("127.0.0.1", port):
            pass
