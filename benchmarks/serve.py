"""Speed of a served model: `trackdl serve` and `mlflow models serve` of our model compared with a plain MLflow model.

    python benchmarks/serve.py                      # about five minutes on two quiet cores
    python benchmarks/serve.py --json > serve.json
    python benchmarks/serve.py --requests 20 --batches 2 --rounds 1 --memory 100   # a quick trial

With `--attack SECONDS`, a good client also asks `trackdl serve` for so long beside 32 bad ones of each kind, who send
what costs as much as is allowed, or more, again and again.

The same weights of Task 1's network are served three ways at once, on this machine, from a store of their own: logged
by `mlflow.pytorch.log_model` (normalised tensors in, log-probabilities out), and as trackdl registers them (pixels or
image files in; a label and probabilities out). A PNG in MNIST's own form is taken as it is; one of a sign on paper is
redrawn first, which takes most of the time, so it is sent less often. In each round every side is asked in turn;
figures are medians.
"""

import argparse
import asyncio
import base64
import io
import json
import os
import platform
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from measuring import columns, say

CONCURRENCY = (1, 8, 32)
BATCH = 256
FEWER = {"drawing": 16}  # images at once of a form of which a request may hold fewer: it may take a second of a core
# Which server is asked, in which of the prepared forms.
SIDES = {
    "plain, tensors": ("plain", "tensors"),
    "mlflow, pixels": ("mlflow", "pixels"),
    "trackdl, pixels": ("trackdl", "pixels"),
    "trackdl, PNG": ("trackdl", "png"),
    "trackdl, PNG redrawn": ("trackdl", "drawing"),
}
SLOW = {"drawing": 20}  # a form that takes so many times longer is asked so many times less often
BASE, OURS = "plain, tensors", "trackdl, pixels"
WANTED_P50 = 1.15
WANTED_IMAGES = 5000
WANTED_MEMORY = 0.05
WANTED_BESIDE = 200
BAD_CLIENTS = 32
PATIENCE = 300


@dataclass(frozen=True)
class Server:
    """A running server: where it listens, and its process."""

    port: int
    pid: int


def request(port: int, body: bytes) -> bytes:
    """Return a complete HTTP request to a server."""
    head = f"POST /invocations HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def ask(port: int, message: bytes, count: int, concurrency: int) -> list[float]:
    """Send a message `count` times over connections that stay open; return each answer's seconds.

    Raises:
        RuntimeError: An answer is not 200.
    """
    seconds: list[float] = []
    left = iter(range(count))

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
        for _ in left:
            start = time.perf_counter()
            writer.write(message)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            answer = await reader.readexactly(size)
            seconds.append(time.perf_counter() - start)
            if b" 200 " not in head[:20]:
                raise RuntimeError(f"port {port}: {head[:20]!r} {answer[:300]!r}")
        writer.close()

    await asyncio.gather(*(one() for _ in range(concurrency)))
    return seconds


def measure(server: Server, form: str, bodies: dict[str, bytes], requests: int, batches: int) -> dict[str, Any]:
    """Send single images to a server at each concurrency, then batches; return the times that they took."""
    single, many = request(server.port, bodies["1"]), request(server.port, bodies["many"])
    asyncio.run(ask(server.port, single, max(5, requests // 10), 1))  # warm
    measured: dict[str, Any] = {"rate": {}}
    for concurrency in CONCURRENCY:
        start = time.perf_counter()
        seconds = sorted(asyncio.run(ask(server.port, single, requests, concurrency)))
        measured["rate"][concurrency] = requests / (time.perf_counter() - start)
        if concurrency == 1:
            measured["p50"], measured["p99"] = median(seconds), seconds[int(0.99 * (len(seconds) - 1))]
    asyncio.run(ask(server.port, many, 1, 1))
    start = time.perf_counter()
    asyncio.run(ask(server.port, many, batches, 1))
    measured["images"] = batches * FEWER.get(form, BATCH) / (time.perf_counter() - start)
    return measured


def _file(side: tuple[int, int], kind: str, **options: Any) -> str:
    """Return a blank image file as base64."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("L", side, 255).save(file, kind, **options)
    return base64.b64encode(file.getvalue()).decode()


def attacks() -> dict[str, bytes]:
    """Return the bodies of bad requests."""
    keys = ",".join(f'"{number}":1' for number in range(900_000))
    return {
        "nothing bad": b"",
        "PNG of 23 megapixels": json.dumps({"inputs": [_file((4800, 4900), "PNG")]}).encode(),
        "WebP of 12 megapixels": json.dumps({"inputs": [_file((3400, 3500), "WEBP", lossless=True)]}).encode(),
        "JPEG of 79 megapixels": json.dumps({"inputs": [_file((8900, 8900), "JPEG")]}).encode(),
        "40 files to redraw": json.dumps({"inputs": [_file((300, 300), "PNG")] * 40}).encode(),
        "10 MB of keys": f'{{"inputs":{{{keys}}}}}'.encode(),
        "10 MB of lists": b'{"inputs":[[' + b"[]," * 3_400_000 + b"[]]]}",
    }


async def beside(port: int, good: bytes, bad: bytes, seconds: float) -> dict[str, Any]:
    """Ask with good requests beside bad clients; return the good ones' times, and the statuses that were answered."""
    until = time.monotonic() + seconds
    times: list[float] = []
    statuses: dict[str, Counter[str]] = {"good": Counter(), "bad": Counter()}

    async def client(kind: str, message: bytes) -> None:
        writer = None
        while time.monotonic() < until:
            start = time.perf_counter()
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
                writer.write(message)
                await writer.drain()
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
                statuses[kind][head[9:12].decode()] += 1
            except (OSError, asyncio.IncompleteReadError):
                statuses[kind]["cut off"] += 1
                head = b"connection: close"
            if kind == "good":
                times.append(time.perf_counter() - start)
            if b"connection: close" in head and writer:
                writer.close()
                writer = None
        if writer:
            writer.close()

    await asyncio.gather(client("good", good), *(client("bad", bad) for _ in range(BAD_CLIENTS if bad else 0)))
    times.sort()
    told = {kind: dict(count) for kind, count in statuses.items()}
    return {"p50": median(times), "p99": times[int(0.99 * (len(times) - 1))], "statuses": told}


def attack(server: Server, good: bytes, seconds: float) -> list[dict[str, Any]]:
    """Ask with good requests beside each kind of bad ones; return times, statuses, and the server's memory, MB."""
    found = []
    for name, body in attacks().items():
        bad = request(server.port, body) if body else b""
        one = asyncio.run(beside(server.port, request(server.port, good), bad, seconds))
        found.append({"beside": name, **one, "memory": _resident(server.pid)})
        say(f"beside {name}: p99 {1e3 * one['p99']:.0f} ms")
    return found


def memory(server: Server, body: bytes, count: int) -> list[float]:
    """Return a server's resident memory, MB: after a tenth of so many requests, and after each further tenth."""
    message = request(server.port, body)
    seen = []
    for _ in range(10):
        asyncio.run(ask(server.port, message, max(1, count // 10), 4))
        seen.append(_resident(server.pid))
    return seen


def _resident(pid: int) -> float:
    import psutil

    process = psutil.Process(pid)
    return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]) / 2**20


@contextmanager
def serving(command: list[str], port: int, environment: dict[str, str]) -> Iterator[Server]:
    """Run a server while the block runs; wait until it answers."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{' '.join(command)}: does not answer") from None
                time.sleep(0.2)
        yield Server(port, process.pid)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def servers(preprocessing: str) -> Iterator[tuple[dict[str, Server], dict[str, dict[str, bytes]]]]:
    """Serve the weights, registered both ways in a store of their own; give servers, and bodies by form and size."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        scripts = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "PATH": scripts}
        environment["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
        program = Path(__file__).with_name("served_models.py")
        done = subprocess.run(
            [sys.executable, program, folder, preprocessing], env=environment, stdout=subprocess.PIPE, check=True
        )
        uris = json.loads(done.stdout.splitlines()[-1])
        running = {}
        for side, uri in uris.items():
            port = _free_port()
            words = ["mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "-p", str(port)]
            if side == "trackdl":
                words = ["trackdl", "serve", uri, "--port", str(port)]
            running[side] = stack.enter_context(serving([sys.executable, "-m", *words], port, environment))
        forms = {form for _, form in SIDES.values()}
        bodies = {
            form: {size: Path(folder, f"{form}-{size}.json").read_bytes() for size in ("1", "many")} for form in forms
        }
        yield running, bodies


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Do all rounds; return machine, options, results by side (one a round), and memory by server."""
    results: dict[str, list[Any]] = {side: [] for side in SIDES}
    held: dict[str, list[float]] = {}
    with servers(options.preprocessing) as (running, bodies):
        for number in range(1, options.rounds + 1):
            for side, (server, form) in SIDES.items():
                counts = (max(2, count // SLOW.get(form, 1)) for count in (options.requests, options.batches))
                results[side].append(measure(running[server], form, bodies[form], *counts))
                say(f"round {number} of {options.rounds}: {side}: p50 {1e3 * results[side][-1]['p50']:.2f} ms")
        attacked = attack(running["trackdl"], bodies["pixels"]["1"], options.attack) if options.attack else []
        if options.memory:
            for server in ("mlflow", "trackdl"):
                held[server] = memory(running[server], bodies["pixels"]["1"], options.memory)
                say(f"memory, {server}: {held[server][0]:.0f} to {held[server][-1]:.0f} MB")
    names = ("requests", "batches", "rounds", "memory", "preprocessing", "attack")
    asked = {name: getattr(options, name) for name in names}
    machine = {"processor": platform.machine(), "cores": len(os.sched_getaffinity(0))}
    return {"machine": machine, "options": asked, "results": results, "memory": held, "attack": attacked}


def summarise(measured: dict[str, Any]) -> dict[str, Any]:
    """Return medians over the rounds and their ratios to the plain side, and how memory moved."""
    results = measured["results"]
    sides = []
    for side, rounds in results.items():
        ratios = [one["p50"] / base["p50"] for one, base in zip(rounds, results[BASE], strict=True)]
        rates = {str(key): median(one["rate"][key] for one in rounds) for key in rounds[0]["rate"]}
        spread = [min(ratios), max(ratios)]
        figures = {name: median(one[name] for one in rounds) for name in ("p50", "p99", "images")}
        sides.append({"side": side, **figures, "ratio": median(ratios), "ratio_spread": spread, "rates": rates})
    # The first tenth warms allocators and caches; flat is what comes after.
    drift = {name: max(seen[1:]) / min(seen[1:]) - 1 for name, seen in measured["memory"].items()}
    return {"sides": sides, "memory_drift": drift}


def table(measured: dict[str, Any], summary: dict[str, Any]) -> str:
    """Return the results of `run` and `summarise` as text."""
    options = measured["options"]
    heads = ["side", "p50 ms", "p99 ms", "of plain", "(spread)"]
    heads += [f"req/s, {number} at once" for number in CONCURRENCY] + [f"images/s, {BATCH} at once"]
    rows = [heads]
    for one in summary["sides"]:
        low, high = one["ratio_spread"]
        own = one["side"] == BASE
        ratio = ["", ""] if own else [f"{one['ratio']:.2f}×", f"({low:.2f}-{high:.2f})"]
        rates = [f"{one['rates'][str(number)]:,.0f}" for number in CONCURRENCY]
        figures = [f"{1e3 * one['p50']:.2f}", f"{1e3 * one['p99']:.2f}", *ratio, *rates, f"{one['images']:,.0f}"]
        rows.append([one["side"], *figures])
    lines = [
        f"{options['requests']} requests at each concurrency, {options['batches']} batches, {options['rounds']} rounds"
    ]
    lines += [f"{measured['machine']['cores']} cores, shared by servers and client", ""]
    lines += columns(rows, left=1)
    lines += ["", f"wanted of {OURS}: p50 at most {WANTED_P50}×; {WANTED_IMAGES:,} images/s from pixels or files"]
    if measured["attack"]:
        heads = [f"one good client beside {BAD_CLIENTS} bad ones", "p50 ms", "p99 ms", "MB", "good", "bad"]
        rows = [heads]
        for one in measured["attack"]:
            counts = [
                " ".join(f"{count:,}×{status}" for status, count in told.items()) for told in one["statuses"].values()
            ]
            figures = [f"{1e3 * one['p50']:.1f}", f"{1e3 * one['p99']:.1f}", f"{one['memory']:,.0f}"]
            rows.append([one["beside"], *figures, *counts])
        lines += ["", *columns(rows, left=1), "", f"wanted: p99 at most {WANTED_BESIDE} ms"]
    for name, seen in measured["memory"].items():
        lines.append(
            f"memory of {name} over {options['memory']:,} requests: {seen[0]:,.0f} to {seen[-1]:,.0f} MB, after the"
            f" first tenth within {summary['memory_drift'][name]:.1%} (wanted ± {WANTED_MEMORY:.0%})"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None, run: Callable[[argparse.Namespace], dict[str, Any]] = run) -> None:
    """Measure, and print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000, help="single images at each concurrency (default 1000)")
    parser.add_argument(
        "--batches", type=int, default=40, help=f"batches of {BATCH}, of images to redraw fewer (default 40)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often every side is asked (default 3)")
    parser.add_argument("--memory", type=int, default=20_000, help="requests over which memory is watched; 0: none")
    parser.add_argument("--attack", type=float, default=0, help="seconds beside each kind of bad clients; 0: none")
    parser.add_argument(
        "--preprocessing", choices=["mnist", "report"], default="mnist", help="of the PNG side (default mnist)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args(arguments)
    measured = run(options)
    summary = summarise(measured)
    print(json.dumps(measured | summary, indent=2) if options.json else table(measured, summary))


if __name__ == "__main__":
    main()
