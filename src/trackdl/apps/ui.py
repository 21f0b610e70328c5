"""`trackdl ui`: MLflow's UI and Optuna's dashboard on this machine, started and stopped together.

MLflow's UI takes the port that the ledger and the studies' trials link to, if it is free.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import psutil

from trackdl.errors import TrackdlError
from trackdl.studies.store import storage_url
from trackdl.system import databases
from trackdl.system.console import say
from trackdl.system.paths import UI, project_root
from trackdl.tracking import pages, store

_HOST = "127.0.0.1"
_OPTUNA_PORT = 8080  # where `optuna-dashboard` itself listens
_TIMEOUT = 180  # seconds until a page must answer: MLflow imports slowly on a busy machine
_LOG_TAIL = 2000  # characters of a page's log that are shown when it ends


# The program of a page's process. Its arguments: the id of its parent, the module to run, and that module's arguments.
_PAGE = """
import runpy, sys
from trackdl.system.processes import end_with
end_with(int(sys.argv[1]))
del sys.argv[:2]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@dataclass
class Page:
    """A page: its name, address, process, log and the process's children."""

    name: str
    address: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    children: list[psutil.Process] = field(default_factory=list)


def run(*, browse: bool = False) -> None:
    """Serve both pages until interrupted; `browse` opens MLflow's list of runs in a browser.

    Raises:
        TrackdlError: A page ended or did not answer; the other has been stopped.
    """
    with shown() as (served, runs):
        if browse and not webbrowser.open(runs):
            say("No browser could be opened: open the address of MLflow yourself.")
        if served:
            say("Ctrl-C stops " + ("both." if len(served) > 1 else "it."))
        while served:
            time.sleep(0.2)
            for page in served:
                _check(page)


@contextmanager
def shown() -> Iterator[tuple[list[Page], str]]:
    """Serve the pages while the block runs; print their addresses once they answer.

    Without a study there is no dashboard; with a tracking server, only its address is printed for MLflow.

    Yields:
        The pages, and the address of MLflow's list of runs.

    Raises:
        TrackdlError: A page ended or did not answer.
    """
    experiment = store.home_experiment()
    tracked = os.environ["MLFLOW_TRACKING_URI"]
    runs = pages.run_list(pages.base(tracked), experiment)
    served: list[Page] = []
    try:
        if tracked.startswith("http"):
            say(f"MLflow           {runs} (the tracking server itself)")
        else:
            served.append(_mlflow(tracked))
            runs = pages.run_list(served[0].address, experiment)
        if studies := _studies():
            served.append(_dashboard(studies))
        for page in served:
            _await(page)
            page.children = _children(page)
            say(f"{page.name:<16} {runs if page.name == 'MLflow' else page.address}")
        yield served, runs
    finally:
        _stop(served)


def _studies() -> str | None:
    """Return the address of Optuna's storage; None, with a message, if it does not exist yet."""
    url = storage_url()
    file = databases.sqlite_file(url)
    if file and not file.is_file():
        say(f"No study is stored yet ({file} does not exist), so there is no Optuna dashboard to show.")
        return None
    return url


def _mlflow(uri: str) -> Page:
    links = f"MLflow takes another. Links from the ledger and from trials lead to {UI}"
    port = _port(int(UI.rpartition(":")[2]), links)
    hosts = f"{_HOST}:{port},localhost:{port}"
    arguments = ["ui", "--host", _HOST, "--port", str(port), "--workers", "1", "--allowed-hosts", hosts]
    # Not in the arguments, which other users can see: the address may contain a password.
    settings = {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    # Eight more processes, of over a gigabyte together: they judge language models, which trackdl has none of.
    settings["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    return _start("MLflow", port, ["mlflow", *arguments], settings)


def _dashboard(url: str) -> Page:
    port = _port(_OPTUNA_PORT, "Optuna's dashboard takes another")
    return _start("Optuna dashboard", port, ["trackdl.apps.dashboard", str(port)], {"TRACKDL_STORAGE": url})


def _port(usual: int, otherwise: str) -> int:
    """Return the usual port, or another one, with a message, if that is taken."""
    try:
        socket.create_server((_HOST, usual)).close()
    except OSError:
        say(f"Port {usual} is taken; {otherwise}.")
        with socket.create_server((_HOST, 0)) as free:
            return int(free.getsockname()[1])
    return usual


def _start(name: str, port: int, module: list[str], settings: Mapping[str, str]) -> Page:
    source = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, **settings}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    # `mlflow run` sets it for its own run.
    environment.pop("MLFLOW_RUN_ID", None)
    log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the page runs
    process = subprocess.Popen(  # noqa: S603 - arguments made here
        [sys.executable, "-c", _PAGE, str(os.getpid()), *module],
        env=environment,
        cwd=project_root(),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        # Ctrl-C at the terminal is for this process, which stops the page.
        start_new_session=True,
    )
    return Page(name, f"http://{_HOST}:{port}", process, log)


def _await(page: Page) -> None:
    for _ in range(_TIMEOUT * 5):
        _check(page)
        if _listens(page):
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(page.address, timeout=5).close()  # noqa: S310 - an address made above
                return
        time.sleep(0.2)
    raise TrackdlError(f"{page.name} does not answer after {_TIMEOUT} s; its log ends with:\n{_log_tail(page)}")


def _listens(page: Page) -> bool:
    """Return whether the page itself has its port: another program may have taken it meanwhile, and would answer."""
    with contextlib.suppress(psutil.Error):
        family = [psutil.Process(page.process.pid), *_children(page)]
        ports = {at.laddr.port for each in family for at in each.net_connections("tcp") if at.status == "LISTEN"}
        return urlsplit(page.address).port in ports
    return False


def _check(page: Page) -> None:
    code = page.process.poll()
    if code is not None:
        raise TrackdlError(f"{page.name} ended (exit code {code}); its log ends with:\n{_log_tail(page)}")


def _children(page: Page) -> list[psutil.Process]:
    """Return the processes below a page's: MLflow's server outlives a killed MLflow."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(page.process.pid).children(recursive=True)
    return []


def _log_tail(page: Page) -> str:
    page.log.seek(0)
    text = page.log.read().decode(errors="replace")
    for uri in (os.environ["MLFLOW_TRACKING_URI"], storage_url()):
        text = databases.redact(text, uri)
    return text[-_LOG_TAIL:].strip()


def _stop(pages: list[Page]) -> None:
    """End the pages, killing what does not end within 10 seconds."""
    for page in pages:
        page.children = page.children or _children(page)
        page.process.terminate()
    for page in pages:
        with contextlib.suppress(subprocess.TimeoutExpired):
            page.process.wait(timeout=10)
        page.process.kill()
        page.process.wait()
        for child in page.children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        page.log.close()
