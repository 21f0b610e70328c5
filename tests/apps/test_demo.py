"""The page to try the models on: in a real browser, with a drawing made by the test, and asked directly."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.browser import needs_browser
from support.served import GREEK, ask, card, colour_model, content, letter, network
from tools.screens import draw, opened, served
from trackdl.apps import demo
from trackdl.apps.demo import DemoModel
from trackdl.apps.serve import listening
from trackdl.errors import InputError
from trackdl.serving import ServedImages

DIGITS = tuple("0123456789")


def models() -> list[DemoModel]:
    digits = ServedImages(network(), card(DIGITS))
    greek = ServedImages(network(3, seed=1), card(GREEK, "report"))
    return [
        DemoModel("mnist-cnn", "4", "test_accuracy 0.9818", digits),
        DemoModel("greek-cnn", "2", "val_accuracy 0.9630", greek),
        DemoModel("fashion-cnn", "1", "", problem="its files are not those that were registered"),
    ]


@pytest.fixture
def page_at() -> Iterator[str]:
    with served(demo.build(models(), ["127.0.0.1"])) as address:
        yield address


SEVEN = [(0.25, 0.2), (0.75, 0.2), (0.45, 0.85)]


def card_of(page: Any, name: str) -> Any:
    return page.locator(f"article[data-model={name}]")


@needs_browser
def test_a_drawing_is_answered_by_every_model(page_at: str) -> None:
    with opened() as page:
        page.goto(page_at)
        page.locator("article").first.wait_for()
        assert page.locator("article").count() == 3
        assert "Classes: 0, 1, 2" in card_of(page, "mnist-cnn").inner_text()
        assert "not those that were registered" in card_of(page, "fashion-cnn").inner_text()
        draw(page, SEVEN)
        for name, classes in (("mnist-cnn", 10), ("greek-cnn", 3)):
            shown = card_of(page, name)
            shown.locator(".label").wait_for()
            assert shown.locator(".bars li").count() == classes
            best = shown.locator(".bars .best span").inner_text()
            assert shown.locator(".label").inner_text() == best
            assert "probability" in shown.inner_text()
            pixels = shown.locator("canvas").evaluate(
                "c => [...c.getContext('2d').getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 == 0)"
            )
            assert max(pixels) > 200
            assert 10 < sum(tone > 100 for tone in pixels) < 400
        first = page.locator("#spoken").inner_text()
        assert first.startswith("mnist-cnn: ")
        page.get_by_role("button", name="Clear").click()
        assert page.locator(".label").count() == 0
        assert page.get_by_role("button", name="Undo").is_disabled()
        assert not page.errors
        assert not page.foreign


@needs_browser
def test_the_keyboard_draws_too(page_at: str) -> None:
    with opened() as page:
        page.goto(page_at)
        page.locator("#paper").focus()
        for _ in range(6):
            page.keyboard.press("ArrowUp")
        for _ in range(12):
            page.keyboard.press("Shift+ArrowDown")
        card_of(page, "mnist-cnn").locator(".label").wait_for()
        page.keyboard.press("Delete")
        assert page.locator(".label").count() == 0
        assert not page.errors


@needs_browser
def test_a_picture_is_answered_and_what_is_none_is_said(page_at: str, tmp_path: Path) -> None:
    (tmp_path / "letter.jpg").write_bytes(content(letter(), "JPEG"))
    (tmp_path / "letter.svg").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    with opened() as page:
        page.goto(page_at)
        page.set_input_files("#file", tmp_path / "letter.jpg")
        card_of(page, "greek-cnn").locator(".label").wait_for()
        page.set_input_files("#file", tmp_path / "letter.svg")
        page.locator("#message.wrong").wait_for()
        assert "not an image that can be read" in page.locator("#message").inner_text()
        assert page.locator(".label").count() == 0
        # A blank picture is refused by the model that looks for ink, in its own card.
        page.evaluate("paper.toBlob((blob) => ask(blob))")
        card_of(page, "mnist-cnn").locator(".wrong").wait_for()
        assert "no ink" in card_of(page, "mnist-cnn").inner_text()


@needs_browser
def test_without_models_the_page_says_what_to_do() -> None:
    with served(demo.build([], ["127.0.0.1"])) as address, opened() as page:
        page.goto(address)
        page.get_by_text("No image model is registered yet").wait_for()


def test_the_page_is_asked_by_its_own_name_only() -> None:
    app = demo.build(models(), ["127.0.0.1"])
    picture = content(letter())
    here = {"host": "127.0.0.1:7860"}
    status, said = ask(app, picture, "image/png", "/look", headers=here)
    assert status == 200
    assert [answer["name"] for answer in said] == ["mnist-cnn", "greek-cnn"]
    assert len(said[0]["shown"]) == 784
    assert ask(app, picture, "image/png", "/look", headers={"host": "evil.example"})[0] == 403
    assert ask(app, b"", None, "/", "GET", headers={"host": "evil.example"})[0] == 403
    for origin, expected in (("http://127.0.0.1:7860", 200), ("http://evil.example", 403), ("null", 403)):
        assert ask(app, picture, "image/png", "/look", headers=here | {"origin": origin})[0] == expected
    for kind in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded", None):
        assert ask(app, picture, kind, "/look", headers=here)[0] == 415
    assert ask(app, b"no picture", "image/png", "/look", headers=here)[0] == 400
    status, said = ask(app, b" " * (demo.MAX_BYTES + 1), "image/png", "/look", headers=here, chunk=2**20)
    assert (status, "20,971,520 bytes" in said["message"]) == (413, True)


def test_each_model_is_shown_what_it_saw_at_its_own_size_and_colours() -> None:
    both = [*models(), DemoModel("flags", "1", "", colour_model())]
    app = demo.build(both, ["127.0.0.1"])
    red = content(Image.new("RGB", (40, 40), (200, 10, 30)))
    status, said = ask(app, red, "image/png", "/look", headers={"host": "127.0.0.1"})
    assert status == 200
    assert [(answer["name"], answer.get("size")) for answer in said if "shown" in answer][-1] == ("flags", 12)
    assert said[-1]["shown"] == [200, 10, 30] * 144


@needs_browser
def test_the_page_paints_colours() -> None:
    with served(demo.build([DemoModel("flags", "1", "", colour_model())], ["127.0.0.1"])) as address, opened() as page:
        page.goto(address)
        page.locator("article").first.wait_for()
        draw(page, SEVEN)
        shown = card_of(page, "flags")
        shown.locator(".label").wait_for()
        assert "12×12" in shown.inner_text()
        size = shown.locator("canvas").evaluate("c => [c.width, c.height]")
        assert size == [12, 12]
        assert not page.errors


def test_no_file_of_the_page_names_another_machine() -> None:
    for path in demo.PAGE.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text.replace("httpEquiv", ""), path


def test_a_taken_port_is_said() -> None:
    with listening("127.0.0.1", 0) as (listener, _):
        port = listener.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port}"), listening("127.0.0.1", port):
            pass
