"""How one driver and one pair of stores scale: 1 to 32 workers that sleep instead of training; then two that train.

    python benchmarks/scale.py                          # about half an hour; PostgreSQL where its programs are
    python benchmarks/scale.py --workers 1 8 --seconds 2 --trials-each 2 --stores sqlite --no-images   # a quick trial
    python benchmarks/scale.py --json > scale.json

Three measurements, each in fresh stores:

- *rates*: no sleep at all, so the driver is always at work: trials completed and points logged per second;
- *training*: trials of `--seconds`; the share of the workers' time that was spent asleep, which represents training;
- *images*: the grid's sample (`grid_sides.py`) by one worker and by two, images per second.

Workers are threads here: they only sleep, and 32 processes of PyTorch would measure the machine's memory. The driver,
the stores, the plots of every trial and the writing of states are the real ones.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measuring import in_a_fresh_process, say

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

STATE = bytes(1_000_000)  # of a training, as large as that of a network of 80,000 parameters with Adam
WANTED_SHARE = 0.95  # at 32 workers, PostgreSQL, trials of 10 s
WANTED_SPEEDUP = 1.8


def threads(function: Callable[[Any], Any], next_task: Callable[[], Any], workers: int) -> Iterator[tuple[Any, Any]]:
    """An engine of threads, for work that only sleeps."""
    with ThreadPoolExecutor(workers) as pool:
        busy: dict[Future[Any], Any] = {}
        while True:
            while len(busy) < workers and (pair := next_task()) is not None:
                busy[pool.submit(function, pair[1])] = pair[0]
            if not busy:
                return
            for done in wait(busy, return_when=FIRST_COMPLETED).done:
                yield busy.pop(done), done.result()


@contextmanager
def stores(kind: str) -> Iterator[None]:
    """Set fresh stores of a kind, in a folder or a server of their own."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRACKDL_DATA_DIR"] = folder
        if kind == "sqlite":
            os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
            os.environ["TRACKDL_STORAGE"] = f"sqlite:///{folder}/optuna.db"
            yield
            return
        from support.postgres import Server

        server = Server()
        try:
            os.environ["MLFLOW_TRACKING_URI"], os.environ["TRACKDL_STORAGE"] = server.database(), server.database()
            yield
        finally:
            server.close()


def measure_store(kind: str, workers: int, seconds: float, trials: int, parts: int) -> dict[str, float]:
    """Run a search whose trials sleep, in this process.

    Args:
        kind: "sqlite" or "postgres".
        workers: The number of threads.
        seconds: How long a trial sleeps.
        trials: The number of trials.
        parts: The epochs of a trial, each a task of its own.

    Returns:
        `seconds` from the first task to the last outcome, `asleep` seconds of all workers, `trials`, `points` logged.
    """
    with stores(kind):
        from trackdl import spec
        from trackdl.studies.search.segments import Epoch, SegmentResult, SegmentTask
        from trackdl.system.paths import project_root
        from trackdl.tasks import search

        search_file = spec.load(HERE.parent / "experiments" / "search.yaml", spec.SearchSpec)
        content = search_file.model_dump(exclude_unset=True, mode="json")
        content["experiment"]["training"]["epochs"] = parts
        content["study"] = {"trials": trials, "pruner": "none"}
        content["first"] = []
        for key in ("conv_layers", "convs_per_pool", "pool_early", "pool_size"):
            del content["space"][f"network.{key}"]  # some of their values leave no pixels, and are refused untrained
        experiment = spec.SearchSpec.model_validate(content)
        times: list[float] = []
        asleep = 0.0

        def nap(task: SegmentTask) -> SegmentResult:
            nonlocal asleep
            time.sleep(seconds / parts)
            asleep += seconds / parts
            n = task.until
            return SegmentResult([Epoch(n, 1 / n, 0.5, 1 / n, 0.5 + n / 100, 1.0)], STATE)

        def timed(function: Any, next_task: Any, count: int) -> Iterator[tuple[Any, Any]]:
            times.append(time.monotonic())
            for pair in threads(function, next_task, count):
                times.append(time.monotonic())
                yield pair

        result = search.run(experiment, workers, nap, timed)
        points = 4 * parts * trials
        (project_root() / "reports" / f"{result.study.name}-best.yaml").unlink(missing_ok=True)
        return {"seconds": times[-1] - times[0], "asleep": asleep, "trials": trials, "points": points}


def measure_images(workers: int, epochs: int, validation: float) -> float:
    """Return the grid sample's images per second with `workers` workers, in this process."""
    import grid as grid_benchmark
    import grid_sides

    grid_sides.WORKERS = workers
    fits = [vars(fit) for fit in grid_sides.run_trackdl(grid_sides.Job(epochs=epochs, validation=validation, seed=1))]
    return grid_benchmark.rates({"fits": fits, "workers": workers})["all"]


def _fresh(job: dict[str, Any]) -> Any:
    return in_a_fresh_process("scale.py", "--one", json.dumps(job))


def _one(job: dict[str, Any]) -> Any:
    kind = job.pop("measure")
    return measure_images(**job) if kind == "images" else measure_store(**job)


def summarise(kind: str, workers: int, idle: dict[str, float], slept: dict[str, float]) -> dict[str, Any]:
    """Return a row of the table: rates from `idle`, without sleep, and the share of training from `slept`."""
    return {
        "store": kind,
        "workers": workers,
        "trials_per_second": idle["trials"] / idle["seconds"],
        "points_per_second": idle["points"] / idle["seconds"],
        "training_share": slept["asleep"] / (workers * slept["seconds"]),
    }


def main() -> None:
    """Measure and print what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--stores", nargs="+", default=["sqlite", "postgres"], choices=["sqlite", "postgres"])
    parser.add_argument("--seconds", type=float, default=10.0, help="of a trial")
    parser.add_argument("--trials-each", type=int, default=6, help="trials for each worker")
    parser.add_argument("--parts", type=int, default=1, help="epochs of a trial, each a task of its own")
    parser.add_argument("--epochs", type=int, default=2, help="of the grid's sample")
    parser.add_argument("--validation", type=float, default=0.2, help="share of images that it leaves out")
    parser.add_argument("--no-images", action="store_true", help="leave the grid's sample out")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(_one(json.loads(options.one))))
        return
    lines = []
    for kind in options.stores:
        for workers in options.workers:
            job = {"measure": "store", "kind": kind, "workers": workers, "parts": options.parts}
            job["trials"] = options.trials_each * workers
            found = [_fresh(job | {"seconds": seconds}) for seconds in (0.0, options.seconds)]
            lines.append(summarise(kind, workers, *found))
            say(str(lines[-1]))
    images = {}
    if not options.no_images:
        for workers in (1, 2):
            job = {"measure": "images", "workers": workers, "epochs": options.epochs, "validation": options.validation}
            images[workers] = _fresh(job)
    if options.json:
        print(json.dumps({"options": vars(options), "stores": lines, "images_per_second": images}))
        return
    print(f"| store | workers | trials a second | points a second | time training, trials of {options.seconds:g} s |")
    print("|---|---|---|---|---|")
    for line in lines:
        rates = f"{line['trials_per_second']:.1f} | {line['points_per_second']:,.0f}"
        print(f"| {line['store']} | {line['workers']} | {rates} | {line['training_share']:.1%} |")
    if images:
        print(f"\nThe grid's sample: {images[1]:,.0f} images/s by one worker, {images[2]:,.0f} by two: ", end="")
        print(f"{images[2] / images[1]:.2f}× ({WANTED_SPEEDUP}× wanted)")
    largest = [line for line in lines if line["store"] == "postgres" and line["workers"] == 32]
    if largest:
        share = largest[0]["training_share"]
        print(f"32 workers on PostgreSQL: {share:.1%} of the time training ({WANTED_SHARE:.0%} wanted)")


if __name__ == "__main__":
    main()
