"""Servers as people start them: `mlflow models serve` from any folder, and `trackdl serve`; asked over the network."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support import ROOT
from support.served import ROW, add_heart, add_pictures, b64, content, letter

BLANK = [[0] * 28] * 28
PICTURE = {"inputs": [b64(content(letter()))]}


def environment() -> dict[str, str]:
    """Return the settings of a shell in which the project's environment is activated, and nothing of the checkout."""
    settings = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return settings | {"PATH": os.pathsep.join([sysconfig.get_path("scripts"), settings["PATH"]])}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def post(port: int, asked: Any, kind: str = "application/json") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    body = asked if isinstance(asked, bytes) else json.dumps(asked)
    connection.request("POST", "/invocations", body, {"Content-Type": kind})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, json.loads(text) if text.startswith("{") else text


def wait_for(port: int, process: subprocess.Popen[Any]) -> None:
    while process.poll() is None:  # the test's own time limit ends it where the server hangs
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        try:
            connection.request("GET", "/ping")
            assert connection.getresponse().status == 200
            return
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()
    raise AssertionError(f"the server ended with {process.poll()} before it answered")


@contextmanager
def mlflow_serves(name: str, folder: Path) -> Iterator[int]:
    port = free_port()
    words = ["models", "serve", "-m", f"models:/{name}@champion", "--env-manager", "local", "-p", str(port)]
    process = subprocess.Popen(
        ["mlflow", *words],
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(port, process)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def elsewhere(tracking: str, tmp_path: Path) -> Path:  # noqa: ARG001 - the store that is asked
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


@pytest.mark.slow
def test_mlflow_serves_a_model_of_pictures(elsewhere: Path) -> None:
    add_pictures()
    with mlflow_serves("greek-cnn", elsewhere) as port:
        status, answer = post(port, PICTURE)
        assert status == 200
        (said,) = answer["predictions"]
        assert (said["model"], said["version"], set(said["probabilities"])) == (
            "greek-cnn",
            "1",
            {"alpha", "beta", "gamma"},
        )
        assert len(post(port, {"instances": [BLANK, BLANK]})[1]["predictions"]) == 2
        split = {"dataframe_split": {"columns": ["image"], "data": [PICTURE["inputs"]]}}
        assert post(port, split) == (200, answer)
        for wrong, words in (
            ({"inputs": [[float("nan")] * 28] * 28}, "row 1, column 1 is nan"),
            ({"inputs": [[0] * 28] * 27}, "shape [27, 28]"),
            ({"inputs": [b64(b"<svg/>")]}, "not an image"),
        ):
            status, answer = post(port, wrong)
            assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
            # The message alone: MLflow would put the whole request before it.
            assert words in answer["message"]
            assert "Failed to predict" not in answer["message"]
        assert post(port, PICTURE)[0] == 200


@pytest.mark.slow
def test_mlflow_serves_the_heart_model(elsewhere: Path) -> None:
    add_heart()
    with mlflow_serves("heart-mlp", elsewhere) as port:
        expected = post(port, {"dataframe_records": [ROW]})
        assert expected[0] == 200
        for asked in (
            {"dataframe_split": {"columns": list(ROW), "data": [list(ROW.values())]}},
            {"instances": [ROW]},
            {"inputs": [ROW]},
            {"inputs": {key: [value] for key, value in ROW.items()}},
        ):
            assert post(port, asked) == expected
        for change, words in (({"Sex": "X"}, "is 'X'"), ({"Age": 54.5}, "is 54.5"), ({"Age": True}, "is True")):
            status, answer = post(port, {"dataframe_records": [ROW | change]})
            assert (status, words in answer["message"]) == (400, True), answer
        assert post(port, {"dataframe_records": [{"Age": 54}]})[0] == 400


@pytest.mark.slow
@pytest.mark.parametrize("name", ["greek-cnn", "heart-mlp"])
def test_mlflow_predicts_from_the_input_example(elsewhere: Path, tracking: str, name: str) -> None:
    import mlflow

    decision = add_heart() if name == "heart-mlp" else add_pictures()
    client = mlflow.MlflowClient(tracking)
    artifact = client.get_model_version_download_uri(name, decision.version).removeprefix("file://")
    example = Path(artifact) / "serving_input_example.json"
    words = ["-m", f"models:/{name}@champion", "--env-manager", "local", "-t", "json", "-i", example, "-o", "out.json"]
    done = subprocess.run(
        ["mlflow", "models", "predict", *words], cwd=elsewhere, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answered = json.loads((elsewhere / "out.json").read_text())["predictions"]
    assert {item["model"] for item in answered} == {name}


@pytest.mark.slow
def test_the_docker_context_holds_the_model_and_its_pins(elsewhere: Path) -> None:
    add_pictures()
    words = ["-m", "models:/greek-cnn@champion", "-d", "context"]
    done = subprocess.run(
        ["mlflow", "models", "generate-dockerfile", *words], cwd=elsewhere, env=environment(), capture_output=True
    )
    assert done.returncode == 0, done.stderr
    context = elsewhere / "context"
    text = (context / "Dockerfile").read_text()
    copied = re.search(r"^COPY (\S+) /opt/ml/model$", text, re.MULTILINE)
    assert copied
    model = context / copied[1]
    assert (model / "data/model/weights.safetensors").is_file()
    assert (model / "code/trackdl/serving/pyfunc.py").is_file()
    pins = (model / "requirements.txt").read_text().split()
    assert all("==" in pin for pin in pins)
    assert "://" not in "".join(pins)


@pytest.mark.slow
def test_trackdl_serves_and_stops_at_a_word(elsewhere: Path) -> None:
    add_pictures()
    process = subprocess.Popen(
        [sys.executable, "-m", "trackdl", "serve", "greek-cnn", "--port", "0"],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        text=True,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        found = re.search(r"greek-cnn version 1 answers at http://127\.0\.0\.1:(\d+)/invocations", line)
        assert found, line
        port = int(found[1])
        assert post(port, PICTURE)[0] == 200
        # A body that is far too large is answered, not cut off; so is the next good one.
        status, answer = post(port, b" " * 30_000_000)
        assert (status, "larger than" in answer["message"]) == (413, True)
        assert post(port, b"[" * 10_000)[0] == 400
        assert post(port, PICTURE)[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
