"""MLflow's comparison of runs, as a user of `trackdl ui` opens it: each begins with what one wants to compare."""

from collections.abc import Iterator, Sequence
from typing import Any

import mlflow
import pytest

from support.apart import blank_figures, own_store
from support.browser import needs_browser
from support.forked import CONTEXT
from support.pictures import put_pictures
from support.search_runs import experiment as small_search
from support.search_runs import here
from support.ui import started
from tools import screens
from trackdl import spec
from trackdl.studies import store as studies
from trackdl.studies.search.segments import train_segment
from trackdl.tasks import classify, search, table
from trackdl.workers import process

TINY = {
    "network.filters": 4,
    "network.dense_nodes": 16,
    "training.batch_size": 32,
    "training.epochs": 2,
    "training.optimizer.lr": 0.01,
    "test": {"after": [1]},
    "seeds": 5,
}
SHORT = {
    "training.epochs": 2,
    "networks": [{"name": "architecture-1", "hidden": [10]}],
    "baselines": ["logistic-regression"],
    "ablation": [],
    "seeds": 1,
    "folds": 2,
    "repeats": 1,
}
TRIALS = 6


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, empty_store: Any) -> Iterator[mlflow.MlflowClient]:
    """Train two seeds of `mnist`, five of `fashion`, a search and `heart`, all on little; give their store."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch, own_store(folder, empty_store, patch) as uri:
        blank_figures(patch)
        for name in ("mnist", "fashion"):
            put_pictures(name, folder, patch)
        patch.setenv("LOKY_MAX_CPU_COUNT", "1")
        patch.setenv("TRACKDL_STORAGE", f"sqlite:///{folder / 'optuna.db'}")
        patch.setattr(process, "_server", CONTEXT)
        patch.setattr(search, "project_root", lambda: folder)
        studies.storage.cache_clear()
        for seed in (1, 2):
            given = {"training.epochs": 2, "reload_after": None, "training.seed": seed}
            classify.run(spec.named("mnist", given))
        classify.run(spec.named("fashion", TINY))
        settings = {"min_epochs": 1, "reduction_factor": 2, "trials": TRIALS}
        images = {"data": {"dataset": "fashion", "validation": 0.2}}
        search.run(small_search(images, study=settings), 1, train_segment, here)
        table.run(spec.named("heart", SHORT))
        yield mlflow.MlflowClient(uri)
        studies.storage.cache_clear()


@pytest.fixture(scope="module")
def page(client: mlflow.MlflowClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Open MLflow's pages as `trackdl ui` serves them; `listed` is the address that it prints."""
    folder = tmp_path_factory.mktemp("ui")
    settings = {"MLFLOW_TRACKING_URI": client.tracking_uri, "TRACKDL_STORAGE": f"sqlite:///{folder / 'none.db'}"}
    with (
        started(folder, **settings) as (_, addresses),
        screens.opened(viewport={"width": 1500, "height": 1000}, color_scheme="light") as opened,
    ):
        opened.listed = addresses["list"]
        yield opened


def named(client: mlflow.MlflowClient, pattern: str, parent: str | None = None) -> dict[str, Any]:
    """Return the runs whose names are like a pattern of SQL, or those of them below a parent, by name."""
    where = f"attributes.run_name LIKE '{pattern}'" + (f" AND tags.mlflow.parentRunId = '{parent}'" if parent else "")
    found = client.search_runs(["1"], where)
    return {run.info.run_name: run for run in found}


def compare(page: Any, names: Sequence[str], parent: str | None = None) -> None:
    """Tick runs in MLflow's list, below the row of their parent if they have one, and compare them."""
    page.goto("about:blank")  # a page that differs in its fragment only would not be loaded anew
    page.goto(page.listed)
    page.get_by_text("Run Name").first.wait_for()
    screens.close_assistant(page)
    if parent:
        row(page, parent).get_by_role("button").first.click()
    for name in names:
        row(page, name).get_by_role("checkbox").first.click()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_text(f"Comparing {len(names)} Runs").first.wait_for()
    page.locator(".js-plotly-plot").first.wait_for()


def row(page: Any, name: str) -> Any:
    return page.get_by_role("row").filter(has=page.get_by_text(name, exact=True))


def drawn(page: Any) -> dict[str, list[Any]]:
    """Return what the plot of parallel coordinates draws: each axis's values, of a category its name."""
    found = page.locator(".js-plotly-plot").first.evaluate(
        "plot => plot.data[0].dimensions.map(axis => [axis.label, Array.from(axis.values), axis.ticktext || null])"
    )
    shown = page.locator(".js-plotly-plot .axis-title").all_text_contents()
    assert {label for label, _, _ in found} == {words.strip() for words in shown}
    return {label: [texts[int(value)] for value in values] if texts else values for label, values, texts in found}


def follow(page: Any, words: str, to: Any) -> Any:
    """Follow a description's link to a run's page, which opens in a window of its own; return that."""
    with page.expect_popup() as opened:
        page.get_by_role("link", name=words, exact=True).click()
    opened.value.wait_for_url(f"**/runs/{to.info.run_id}**")
    return opened.value


def choose(page: Any, what: str, name: str) -> None:
    """Add a parameter or a metric to the plot."""
    page.get_by_text(f"{what}:", exact=True).locator("xpath=following::input[1]").click()
    page.locator(f'[class*="select-item-option"][title="{name}"]').click()
    page.locator(".js-plotly-plot .axis-title", has_text=name).first.wait_for()


@pytest.mark.slow
@needs_browser
def test_two_seeds_are_told_apart_by_the_seed_and_compared_by_test_accuracy(
    page: Any, client: mlflow.MlflowClient
) -> None:
    found = named(client, "mnist%")
    assert sorted(found) == ["mnist, 2 epochs, seed 1", "mnist, 2 epochs, seed 2"]
    compare(page, list(found))
    for name in found:
        page.get_by_text(name, exact=True).first.wait_for()
    axes = drawn(page)
    assert list(axes) == ["training.seed", "test_accuracy"]
    assert dict(zip(axes["training.seed"], axes["test_accuracy"], strict=True)) == {
        int(run.data.params["training.seed"]): run.data.metrics["test_accuracy"] for run in found.values()
    }
    page.get_by_text("Show diff only").first.click()
    page.get_by_text("training.epochs", exact=True).wait_for(state="detached")
    assert page.locator("tr", has_text="training.seed").inner_text().split()[1:] == ["2", "1"]


@pytest.mark.slow
@needs_browser
def test_five_seeds_are_compared_and_lead_to_the_interval_of_their_mean(page: Any, client: mlflow.MlflowClient) -> None:
    ((parent, whole),) = named(client, "fashion%5 seeds").items()
    found = named(client, "fashion%", whole.info.run_id)
    assert [name.rpartition(", ")[2] for name in sorted(found)] == [f"seed {number}" for number in range(1, 6)]
    compare(page, list(found), parent)
    for name in found:
        page.get_by_text(name, exact=True).first.wait_for()
    axes = drawn(page)
    assert list(axes) == ["data.split_seed", "training.seed", "val_accuracy"]
    assert sorted(axes["training.seed"]) == sorted(axes["data.split_seed"]) == [1, 2, 3, 4, 5]
    choose(page, "Metrics", "test_accuracy")
    tested = dict(zip(axes["training.seed"], drawn(page)["test_accuracy"], strict=True))
    assert tested == {
        int(run.data.params["training.seed"]): run.data.metrics["test_accuracy"] for run in found.values()
    }
    page.get_by_role("link", name=next(iter(found.values())).info.run_id).click()
    above = follow(page, "5 seeds", whole)
    for metric in ("test_accuracy", "test_accuracy_low", "test_accuracy_high"):
        above.get_by_role("link", name=metric, exact=True).wait_for()


@pytest.mark.slow
@needs_browser
def test_a_searchs_trials_are_drawn_by_the_searched_keys_against_accuracy(
    page: Any, client: mlflow.MlflowClient
) -> None:
    ((parent, whole),) = named(client, "search%").items()
    found = named(client, "trial%", whole.info.run_id)
    assert found
    compare(page, list(found), parent)
    assert page.get_by_text(parent, exact=True).count() == 0
    for name in found:
        page.get_by_text(name, exact=True).first.wait_for()
    choose(page, "Parameters", "training.schedule")
    axes = drawn(page)
    keys = ["network.conv_layers", "network.filters", "training.optimizer.lr", "training.schedule"]
    assert list(axes) == [*keys, "val_accuracy"]
    assert {"constant", "one_cycle"} >= set(axes["training.schedule"])
    assert sorted(zip(axes["training.optimizer.lr"], axes["val_accuracy"], strict=True)) == sorted(
        (float(run.data.params["training.optimizer.lr"]), run.data.metrics["val_accuracy"]) for run in found.values()
    )


@pytest.mark.slow
@needs_browser
def test_a_tables_protocols_are_compared_by_accuracy_and_say_what_they_are(
    page: Any, client: mlflow.MlflowClient
) -> None:
    ((parent, whole),) = named(client, "heart%").items()
    protocols = ["as-reported", "corrected", "scaled", "improved"]
    found = {name: named(client, name, whole.info.run_id)[name] for name in protocols}
    compare(page, protocols, parent)
    axes = drawn(page)
    assert list(axes) == ["protocol", "test_accuracy"]
    # MLflow cuts names on an axis to ten signs.
    assert dict(zip(axes["protocol"], axes["test_accuracy"], strict=True)) == {
        name[:10]: run.data.metrics["test_accuracy"] for name, run in found.items()
    }
    page.get_by_role("link", name=found["scaled"].info.run_id).click()
    accuracy = found["scaled"].data.metrics["test_accuracy"]
    page.get_by_text(f"scaled/architecture-1: accuracy {accuracy:.2%} on the test rows").wait_for()
    follow(page, "Task 4, heart disease", whole)
