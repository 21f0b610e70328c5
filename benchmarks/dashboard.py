"""What Optuna's dashboard costs a search: the same search alone, and while the dashboard shows its study.

    python benchmarks/dashboard.py               # three rounds, about five minutes on two quiet cores
    python benchmarks/dashboard.py --json

Both searches train the same trials of Fashion-MNIST, on two workers, each in stores of its own. Beside the second one
the dashboard of `trackdl ui` runs, and a reader asks it for the study more often than its page does, which asks every
ten seconds. A request that is not answered, or a search that fails because the store is locked, ends the benchmark
with an error. "With the dashboard" is the median of the rounds' ratios; which side begins changes with each round.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from statistics import median
from typing import Any

import mlflow
import optuna
from measuring import columns, say

from trackdl.system.paths import project_root

TRIALS = 4  # those that experiments/search.yaml begins with, so both sides train the same


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4, help="of each trial")
    parser.add_argument("--per-class", type=int, default=300, help="training images of each class")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two requests to the dashboard")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and end the dashboard
    rounds = []
    for number in range(options.rounds):
        sides = ["alone", "open"] if number % 2 == 0 else ["open", "alone"]
        found = {side: _search(side == "open", options) for side in sides}
        rounds.append(found | {"ratio": found["open"]["seconds"] / found["alone"]["seconds"]})
        say(f"round {number + 1} of {options.rounds}: {rounds[-1]['ratio']:.3f}")
    print(json.dumps({"rounds": rounds}) if options.json else _table(rounds))


def _search(shown: bool, options: argparse.Namespace) -> dict[str, Any]:
    """Search in new stores, which are made before the clock starts; `shown` opens the dashboard beside it."""
    with tempfile.TemporaryDirectory() as folder:
        tracking, studies = f"sqlite:///{folder}/mlflow.db", f"sqlite:///{folder}/optuna.db"
        mlflow.MlflowClient(tracking).search_experiments()
        optuna.storages.RDBStorage(studies)
        environment = {**os.environ, "MLFLOW_TRACKING_URI": tracking, "TRACKDL_STORAGE": studies}
        settings = [f"data.per_class={options.per_class}", f"training.epochs={options.epochs}", "study.pruner=none"]
        command = [sys.executable, "-m", "trackdl", "search", "--workers", "2", "--trials", str(TRIALS)]
        command += [word for setting in settings for word in ("--set", setting)]
        answers: list[float] = []
        with _dashboard(environment, options.every, answers) if shown else nullcontext():
            began = time.perf_counter()
            subprocess.run(command, env=environment, cwd=folder, stdout=subprocess.DEVNULL, check=True)
            seconds = time.perf_counter() - began
        (study,) = optuna.get_all_study_names(studies)
        states = [trial.state.name for trial in optuna.load_study(study_name=study, storage=studies).get_trials()]
        (project_root() / "reports" / f"{study}-best.yaml").unlink(missing_ok=True)  # none, if all have failed
    failed = states.count("FAIL")
    if failed:
        raise SystemExit(f"{failed} of {len(states)} trials failed")
    return {"seconds": seconds, "trials": len(states), "requests": len(answers), "slowest": max(answers, default=0.0)}


@contextmanager
def _dashboard(environment: dict[str, str], every: float, answers: list[float]) -> Iterator[None]:
    """Serve the dashboard and read from it as its page does; `answers` gets the seconds that each answer took."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "trackdl.apps.dashboard", str(port)], env=environment)
    ended, wrong = threading.Event(), []

    def ask(path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=60) as answer:
            return json.load(answer)

    def read() -> None:
        try:
            while not ended.wait(every):
                began = time.perf_counter()
                for study in ask("studies")["study_summaries"]:
                    ask(f"studies/{study['study_id']}?after=0")
                answers.append(time.perf_counter() - began)
        except (OSError, ValueError, KeyError) as error:
            wrong.append(error)

    reader = threading.Thread(target=read)
    try:
        while True:
            try:
                ask("meta")
                break
            except OSError as error:
                if process.poll() is not None:
                    raise SystemExit("the dashboard ended at its start") from error
                time.sleep(0.2)
        reader.start()
        yield
    finally:
        ended.set()
        if reader.ident:
            reader.join()
        process.terminate()
        process.wait()
    if wrong:
        raise SystemExit(f"the dashboard did not answer: {wrong[0]}")


def _table(rounds: list[dict[str, Any]]) -> str:
    rows = [["round", "", "alone, s", "with the dashboard, s", "ratio", "requests", "slowest answer, s"]]
    for number, one in enumerate(rounds, 1):
        alone, shown = one["alone"], one["open"]
        cells = [alone["seconds"], shown["seconds"], one["ratio"], shown["requests"], shown["slowest"]]
        rows.append([str(number), "", *(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells)])
    ratios = [one["ratio"] for one in rounds]
    words = f"with the dashboard: {median(ratios):.2f} times as long ({min(ratios):.2f} to {max(ratios):.2f})"
    return "\n".join([*columns(rows), "", words])


if __name__ == "__main__":
    main()
