import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import urlparse

import mlflow
import numpy as np
import pytest
import torch

from support import ROOT
from support.registered import CARD, EXPERIMENT, add, network
from trackdl.errors import InputError, TrackdlError
from trackdl.serving import ServedImages, read_model, write_model
from trackdl.tracking import runs
from trackdl.tracking.registry import files as artifacts
from trackdl.tracking.registry import register as registry

pytestmark = pytest.mark.usefixtures("tracking")


def alias(tracking: str, name: str) -> str:
    return str(mlflow.MlflowClient(tracking).get_model_version_by_alias("mnist-cnn", name).version)


@pytest.mark.slow
def test_champion_moves_only_to_a_better_one(tracking: str) -> None:
    assert add(0.90).alias == "champion"
    assert add(0.90).alias != "champion"  # a tie
    assert add(0.89).alias != "champion"
    assert (alias(tracking, "champion"), alias(tracking, "challenger")) == ("1", "3")
    assert add(0.91).alias == "champion"
    assert (alias(tracking, "champion"), alias(tracking, "challenger")) == ("4", "3")
    tags = mlflow.MlflowClient(tracking).get_model_version("mnist-cnn", "2").tags
    assert tags["trackdl.decided_by"] == "test_accuracy (a test says so)"
    assert (tags["trackdl.score"], tags["trackdl.rival_score"], tags["trackdl.rival"]) == ("0.9", "0.9", "1")
    assert tags["trackdl.decision"].startswith("challenger: ")
    assert "a tie" in tags["trackdl.decision"]
    assert tags["trackdl.lineage"] == "x"


def test_an_alias_of_its_own_is_no_champion_and_is_not_moved_by_a_better_one(tracking: str) -> None:
    own = add(0.99, alias="report")
    assert own.alias == "report"
    assert not artifacts.exists("models:/mnist-cnn@champion")
    assert not artifacts.exists("models:/mnist-cnn@challenger")
    first, better = add(0.90), add(0.995)
    assert first.alias == "champion", "the version with an alias of its own was a rival"
    assert "there was none" in first.reason
    assert better.alias == "champion"
    assert (alias(tracking, "report"), alias(tracking, "champion")) == ("1", "3")
    tags = mlflow.MlflowClient(tracking).get_model_version("mnist-cnn", "1").tags
    assert tags["trackdl.decision"].startswith("report: ")
    assert "trackdl.rival" not in tags


def test_a_run_is_an_address_of_the_version_that_it_registered(tracking: str) -> None:
    first, second = (add(score) for score in (0.90, 0.95))
    for decision in (first, second):
        run = mlflow.MlflowClient(tracking).get_model_version(decision.name, decision.version).run_id
        assert str(artifacts.find(f"runs:/{run}").version) == decision.version
    with runs.start(EXPERIMENT) as none:
        pass
    with pytest.raises(InputError, match="has registered no model"):
        artifacts.find(f"runs:/{none.id}")
    with pytest.raises(InputError, match="0000"):
        artifacts.find(f"runs:/{'0' * 32}")


def test_scores_on_other_data_are_not_compared(tracking: str) -> None:
    add(0.5, "d1")
    decision = add(0.9, "d2")
    assert decision.alias != "champion"
    assert "other data" in decision.reason
    assert alias(tracking, "champion") == "1"


def test_real_letters_replace_synthetic_ones_and_never_the_reverse() -> None:
    add(0.99, "made", synthetic=True)
    assert add(0.80, "real").alias == "champion"
    assert add(1.0, "made", synthetic=True).alias != "champion"


def test_a_registered_network_comes_back_bit_for_bit() -> None:
    decision = add(0.9, seed=3)
    source = registry.fetch_model("models:/mnist-cnn@champion")
    for ours, theirs in zip(network(3).parameters(), source.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert (source.name, source.version) == ("mnist-cnn", decision.version)
    assert source.card.classes == CARD.classes
    assert registry.fetch_model("models:/mnist-cnn/1").card == source.card


@pytest.mark.parametrize("uri", ["models:/mnist-cnn@nobody", "models:/mnist-cnn/99", "models:/no-such-model@champion"])
def test_an_unknown_model_or_alias_is_an_input_error(uri: str) -> None:
    add(0.9)
    assert not artifacts.exists(uri)
    with pytest.raises(InputError, match="models:/"):
        registry.fetch_model(uri)


def artifact_folder(tracking: str) -> Path:
    uri = mlflow.MlflowClient(tracking).get_model_version_download_uri("mnist-cnn", "1")
    return Path(urlparse(uri).path)


# The demo's page lies in the package, which goes with every model.
KINDS = {".py", ".md", ".json", ".yaml", ".txt", ".safetensors", ".j2", ".html", ".css", ".js", ".svg", ".typed", ""}


def test_no_artifact_is_a_pickle(tracking: str) -> None:
    add(0.9)
    files = [path for path in artifact_folder(tracking).rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"MLmodel", "model.json", "weights.safetensors", "cards.py"}
    for path in files:
        assert path.suffix in KINDS, path
        assert path.suffix or path.name == "MLmodel"
        assert not zipfile.is_zipfile(path)
        assert path.read_bytes()[:1] != b"\x80", f"{path} begins as a pickle does"


STRANGER = """
import json, sys
sys.path = [entry for entry in sys.path if not entry.rstrip('/').endswith('src')]
import numpy as np, mlflow
model = mlflow.pyfunc.load_model('models:/mnist-cnn@champion')
import trackdl
out = model.predict(np.load(sys.argv[1]))
said = [out[key].tolist() for key in ('label', 'probabilities')]
print(json.dumps([trackdl.__file__, *said, out[['model', 'version']].values.tolist()]))
"""


@pytest.mark.slow
def test_it_loads_in_a_process_that_has_never_seen_the_checkout(tmp_path: Path) -> None:
    add(0.9, seed=3)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 28, 28)).astype(np.float32)
    np.save(tmp_path / "pixels.npy", pixels)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    command = [sys.executable, "-c", STRANGER, str(tmp_path / "pixels.npy")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    where, labels, probabilities, names = json.loads(done.stdout.splitlines()[-1])
    assert not Path(where).is_relative_to(ROOT / "src")
    ours = ServedImages(network(3), CARD).records(pixels)
    assert labels == [answer["label"] for answer in ours]
    assert names == [["mnist-cnn", "1"]] * 4
    assert probabilities == [pytest.approx(answer["probabilities"], abs=1e-6) for answer in ours]


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    write_model(tmp_path, network(), CARD)
    read_model(tmp_path)
    weights = tmp_path / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(TrackdlError, match="does not match the digest"):
        read_model(tmp_path)


@pytest.mark.parametrize("broken", ["missing", "no json", "other network", "unknown key"])
def test_a_broken_model_folder_is_one_clear_error(tmp_path: Path, broken: str) -> None:
    card = write_model(tmp_path, network(), CARD)
    path = tmp_path / "model.json"
    if broken == "missing":
        path.unlink()
    elif broken == "no json":
        path.write_text("{")
    elif broken == "other network":
        path.write_text(card.model_copy(update={"network": "os.system"}).model_dump_json())
    else:
        path.write_text(json.dumps({**card.model_dump(), "loader": "x"}))
    with pytest.raises(TrackdlError, match="not a model of trackdl"):
        read_model(tmp_path)


@pytest.mark.parametrize(
    "pixels", [np.zeros((3, 27, 28)), np.full((1, 28, 28), np.nan), np.full((1, 28, 28), 256), np.full((28, 28), -1)]
)
def test_wrong_pixels_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(InputError, match="pixels"):
        ServedImages(network(), CARD).records(pixels)


@pytest.mark.fault("the champion moved, and removed, during a transfer", times=2)
@pytest.mark.faults
def test_the_champion_is_moved_or_removed_while_it_is_fetched(tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    add(0.90, seed=1)
    add(0.91, seed=2)
    plain, find = mlflow.MlflowClient(tracking), registry.find

    def moved(uri: str) -> object:
        found = find(uri)
        plain.set_registered_model_alias("mnist-cnn", "champion", "1")
        return found

    monkeypatch.setattr(registry, "find", moved)
    source = registry.fetch_model("models:/mnist-cnn@champion")
    assert source.version == "2"  # what it says it is
    for name, weights in network(2).state_dict().items():
        assert torch.equal(source.model.state_dict()[name], weights)
    monkeypatch.setattr(registry, "find", find)
    assert artifacts.exists("models:/mnist-cnn@champion")
    plain.delete_registered_model_alias("mnist-cnn", "champion")
    with pytest.raises(InputError, match="mnist-cnn has no version with the alias champion"):
        registry.fetch_model("models:/mnist-cnn@champion")
    assert add(0.5).alias == "champion"  # there is none to be better than


@pytest.mark.parametrize(
    ("command", "name"),
    [("mnist", "mnist-cnn"), ("fashion", "fashion-cnn"), ("transfer", "greek-cnn"), ("heart", "heart-mlp")],
)
def test_a_model_that_is_not_there_is_told_with_what_makes_it(tracking: str, command: str, name: str) -> None:  # noqa: ARG001
    for uri in (f"models:/{name}@champion", f"models:/{name}/1"):
        with pytest.raises(InputError, match=rf"`trackdl {command}` makes {name}; `trackdl models` lists"):
            artifacts.find(uri)


def test_a_version_that_is_not_there_is_told_from_a_model_that_is_not(tracking: str) -> None:  # noqa: ARG001
    add(0.9)
    for uri, reason in (
        ("models:/mnist-cnn/9", "mnist-cnn has no version 9. "),
        ("models:/mnist-cnn@champ", "mnist-cnn has no version with the alias champ. "),
        ("models:/mnist-cn@champion", "there is no registered model 'mnist-cn'. Did you mean 'mnist-cnn'?"),
    ):
        with pytest.raises(InputError, match=re.escape(reason)):
            artifacts.find(uri)


def test_a_registered_model_belongs_to_the_report_that_registered_it_first(
    tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.check_free("mnist-cnn")  # nobody has it yet
    add(0.9)
    owner = mlflow.MlflowClient(tracking).get_registered_model("mnist-cnn").tags[registry.OWNER]
    assert owner == "munukutla-maghrabi"
    registry.check_free("mnist-cnn")
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("TRACKDL_REPORT", str(tmp_path / "mine"))
    with pytest.raises(InputError, match="mnist-cnn is of the report munukutla-maghrabi, and this one is mine"):
        registry.check_free("mnist-cnn")
    registry.check_free("another")
    # Models that older code registered have no owner, and are anybody's.
    mlflow.MlflowClient(tracking).delete_registered_model_tag("mnist-cnn", registry.OWNER)
    registry.check_free("mnist-cnn")
