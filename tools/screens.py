"""Pages in a headless Chromium, for the tests and for the README's screenshots; it reaches only this machine."""

import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette

from trackdl.apps.serve import Protocol, listening

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_QUIET = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# A drawn alpha, in shares of the paper's sides.
ALPHA = [
    *((0.80, 0.25), (0.70, 0.45), (0.58, 0.62), (0.42, 0.74), (0.28, 0.68), (0.22, 0.52)),
    *((0.28, 0.36), (0.40, 0.30), (0.52, 0.38), (0.62, 0.55), (0.72, 0.70), (0.84, 0.74)),
]
# A drawn 2, likewise.
TWO = [
    *((0.30, 0.34), (0.36, 0.23), (0.50, 0.18), (0.63, 0.24), (0.66, 0.36), (0.58, 0.50)),
    *((0.44, 0.64), (0.29, 0.80), (0.50, 0.80), (0.73, 0.79)),
]


@contextmanager
def opened(**options: Any) -> Iterator[Any]:
    """Give a Playwright page; `errors` collects its script errors, `foreign` its requests to other hosts.

    Args:
        options: Options of Playwright's new_context, e.g. `color_scheme`.
    """
    from playwright.sync_api import sync_playwright

    # Chromium has no sandbox for root.
    flags = [*_QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page: Any = browser.new_context(**options).new_page()
        page.set_default_timeout(60_000)
        page.errors = []
        page.foreign = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: None if _here(request.url) else page.foreign.append(request.url))
        yield page
        browser.close()


def _here(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def draw(page: Any, points: Sequence[tuple[float, float]]) -> None:
    """Draw a line on the demo's paper through points, in shares of its sides."""
    box = page.locator("#paper").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=5)
    page.mouse.up()


def compare_runs(page: Any, address: str, experiment: str, runs: Sequence[str]) -> None:
    """Open MLflow's comparison of runs, by their ids, and wait for its first figure; its assistant is closed."""
    ids = ",".join(f'"{run}"' for run in runs)
    page.goto(f'{address}/#/compare-runs?runs=[{ids}]&experiments=["{experiment}"]')
    page.get_by_text(f"Comparing {len(runs)} Runs").first.wait_for()
    page.locator(".js-plotly-plot").first.wait_for()
    close_assistant(page)


def close_assistant(page: Any) -> None:
    """Close the panel of MLflow's assistant, which covers a third of its pages."""
    assistant = page.locator('button[data-component-id="mlflow.assistant.chat_panel.close"]')
    if assistant.count():
        assistant.click()


def open_study(page: Any, address: str, name: str | None = None) -> None:
    """Open a study in Optuna's dashboard, by its name or the first that it lists, and wait for its first figure."""
    page.goto(f"{address}/dashboard")
    listed = page.locator('a[href*="/studies/"]')
    (listed.filter(has_text=name) if name else listed).first.click()
    page.wait_for_url("**/dashboard/studies/*")
    page.locator(".js-plotly-plot .point").first.wait_for()


@contextmanager
def served(app: Starlette) -> Iterator[str]:
    """Serve an application on a free port of 127.0.0.1 while the block runs; give its address."""
    with listening("127.0.0.1", 0) as (listener, address):
        server = uvicorn.Server(uvicorn.Config(app, http=Protocol, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield address
        finally:
            server.should_exit = True
            thread.join()
