"""Evidence that travels: bundles are checked by themselves, and what was changed in one is found."""

import hashlib
import io
import json
import os
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load, save

from support import ROOT
from support.ledger_files import MINE
from trackdl import spec
from trackdl.errors import InputError, TrackdlError
from trackdl.ledger import bundle, check, evidence, page
from trackdl.ledger.model import Ledger
from trackdl.spec import LedgerSpec
from trackdl.tasks import ledger as task

FRESH = "  - {title: The best of the grid again, task: grid, metric: fresh_test_accuracy}\n"


def made(root: Path, place: Path, **keys: object) -> task.Result:
    """Make a ledger of the tiny report, with its bundle."""
    (root / "experiments" / "ledger.yaml").write_text(MINE.replace(FRESH, ""))
    return task.run(spec.load(root / "experiments" / "ledger.yaml", LedgerSpec, keys), place)


class Forger:
    """Changes a bundle and brings in order all that a careful forger can: page, head, ledger, and the crate."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.before = {file: file.read_bytes() for file in place.rglob("*") if file.is_file()}

    def restore(self) -> None:
        """Undo all changes."""
        for file in self.place.rglob("*"):
            if file.is_symlink() or (file.is_file() and file not in self.before):
                file.unlink()
        for file, content in self.before.items():
            file.write_bytes(content)

    def ledger(self, change: Callable[[Any], object]) -> None:
        """Change the ledger, and what is rendered from it."""
        said = json.loads((self.place / "ledger.json").read_text())
        change(said)
        (self.place / "ledger.json").write_text(json.dumps(said))
        self.render()

    def number(self, before: str, after: str) -> None:
        """Change what the report prints, in the bundle's copy of its file."""
        file = self.place / "experiments" / "mnist.yaml"
        file.write_text(file.read_text().replace(before, after))

    def render(self) -> None:
        """Render the page and the head again, if the ledger can be read."""
        ledger: Ledger = check.load(self.place / "ledger.json")
        (self.place / "ledger.html").write_text(page.render(ledger, None))
        (self.place / "README.md").write_text(page.markdown(ledger))
        for name, text in page.pictures(ledger).items():
            (self.place / "pictures" / f"{name}.svg").write_text(text)

    def run(self, change: Callable[[dict[str, bytes]], object], only: int | None = None) -> None:
        """Change the files of one run, or of all; and the digests of its artifacts in the ledger."""
        said = json.loads((self.place / "ledger.json").read_text())
        named = [run for run in said["runs"] if (self.place / f"runs/{run}.zip").exists()]
        for run in named if only is None else [named[only]]:
            file = self.place / f"runs/{run}.zip"
            with zipfile.ZipFile(file) as opened:
                contents = {name: opened.read(name) for name in opened.namelist()}
            change(contents)
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as made_file:
                for name, content in contents.items():
                    made_file.writestr(name, content)
            file.write_bytes(buffer.getvalue())
            for path in said["runs"][run]["artifacts"]:
                said["runs"][run]["artifacts"][path] = hashlib.sha256(contents.get(path, b"")).hexdigest()
        (self.place / "ledger.json").write_text(json.dumps(said))
        self.render()

    def close(self) -> None:
        """List what is there in the crate, with the digests that it has now."""
        there = [file for file in self.place.rglob("*") if file.is_file() and file.name != bundle.METADATA]
        contents = {file.relative_to(self.place).as_posix(): file.read_bytes() for file in there}
        crate = bundle._metadata(check.load(self.place / "ledger.json"), contents)
        (self.place / bundle.METADATA).write_text(crate)


def record(**changes: Any) -> Callable[[dict[str, bytes]], object]:
    """Return a change of a run's record: of a field, or of tags and params."""

    def change(contents: dict[str, bytes]) -> None:
        said = json.loads(contents["run.json"])
        for name, value in changes.items():
            said[name] = said[name] | value if isinstance(value, dict) else value
        contents["run.json"] = json.dumps(said).encode()

    return change


def hide(said: Any) -> None:
    """Take the last run out of a ledger, and all that rests on it."""
    gone = list(said["runs"])[-1]
    del said["runs"][gone]
    for claim in (*said["entries"], *said["beyond"], *said["curves"]):
        holder = claim.get("figure") or (claim if "parts" in claim else {})
        holder["evidence"] = [one for one in holder.get("evidence", []) if one["run"] != gone]
    said["faults"], said["confusions"] = [], []


def reprint(said: Any) -> None:
    """Change a ledger as if the report had printed other numbers."""
    for entry in said["entries"]:
        if entry["published"]["value"] == 0.5:
            entry["published"]["value"] = 0.9


def predictions(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, bytes]], object]:
    """Return a change of all of a run's predictions."""

    def of_all(contents: dict[str, bytes]) -> None:
        for name in [name for name in contents if name.startswith("predictions/")]:
            tensors = load(contents[name])
            change(tensors)
            contents[name] = save(tensors)

    return of_all


@pytest.mark.slow
def test_a_bundle_is_checked_without_a_store_and_every_change_is_found(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "evidence"
    result = made(root, place, seeds=3)
    assert result.check == f"trackdl verify {place}"
    found = task.verify(place)
    assert found.differences == []
    assert any(note.startswith("no evidence to check: ") and "Never searched" in note for note in found.notes)
    assert task.verify(place / "ledger.json").differences == [], "the ledger in a bundle is checked with the bundle"
    assert "127.0.0.1" not in (place / "ledger.html").read_text()

    forger = Forger(place)
    everything: dict[str, Callable[[], object]] = {
        "a digit of a mean": lambda: forger.ledger(lambda it: it["entries"][0]["figure"].update(mean=1.0)),
        "the head": lambda: forger.ledger(lambda it: it["head"][0].update(title="All of it")),
        "a quote": lambda: forger.ledger(lambda it: it["entries"][0]["published"].update(quote="Avg. loss: 1.0")),
        "a published value": lambda: forger.ledger(lambda it: it["entries"][0]["published"].update(value=0.1)),
        "a figure left out": lambda: forger.ledger(
            lambda it: it["entries"][0].update(figure=None, verdict=None, words="no evidence: lost")
        ),
        "another code": lambda: forger.run(record(tags={"trackdl.code_digest": "0" * 64}), 1),
        "other data": lambda: forger.run(record(tags={"trackdl.data_digest": "0" * 64}), 1),
        "another experiment": lambda: forger.run(record(tags={"trackdl.spec_digest": "0" * 64}), 1),
        "a run that failed": lambda: forger.run(record(status="FAILED"), 1),
        "another seed's experiment": lambda: forger.run(
            lambda it: it.update({"experiment.yaml": b"task: classify"}), 1
        ),
        "examples left out": lambda: forger.run(
            predictions(lambda it: it.update({key: value[..., :-1] for key, value in it.items()}))
        ),
        "a page of its own": lambda: (place / "ledger.html").write_text("<p>All reproduced.</p>"),
        "a head of its own": lambda: (place / "README.md").write_text("All reproduced."),
        "a run's seed": lambda: forger.run(record(params={"training.seed": "7"}), 1),
        "a parameter": lambda: forger.run(record(params={"training.optimizer.lr": "0.02"}), 1),
        "a run that the ledger hides": lambda: forger.ledger(hide),
        "a printed number": lambda: (forger.number("value: 0.5", "value: 0.9"), forger.ledger(reprint)),
        "the schema": lambda: (place / "schema.json").write_text("{}"),
        "a link": lambda: (place / "link.txt").symlink_to(place / "ledger.json"),
        "an experiment file": lambda: (place / "experiments" / "mnist.yaml").write_text(
            (place / "experiments" / "mnist.yaml").read_text().replace("momentum: 0.5", "momentum: 0.4")
        ),
    }
    for what, change in everything.items():
        change()
        forger.close()
        assert task.verify(place).differences, f"{what} was changed and not found"
        forger.restore()
    assert task.verify(place).differences == []

    crate = place / bundle.METADATA
    crate.write_text(crate.read_text().replace("The ledger of", "All is reproduced in"))
    assert task.verify(place).differences == [f"{bundle.METADATA}: is not what the ledger gives"]
    forger.restore()
    forger.ledger(lambda it: it.update(folder="$(touch here)/experiments"))
    forger.close()
    found = task.verify(place)
    assert any("'$(touch here)/experiments'/mnist.yaml" in words for words in found.differences), "it is quoted"
    forger.restore()

    for name in (".DS_Store", "runs/._1.zip", "__MACOSX/ledger.json"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text("left there by a system")
    assert task.verify(place).differences == []
    (place / "more.txt").write_text("not listed")
    assert any("more.txt: the crate does not list it" in words for words in task.verify(place).differences)
    forger.restore()
    (next((place / "pictures").iterdir())).unlink()
    assert any("it is not there" in words for words in task.verify(place).differences)
    forger.restore()
    text = (place / "ledger.json").read_text()
    (place / "ledger.json").write_text(text.replace('"seeds":3', '"seeds":5,"seeds":3', 1))
    with pytest.raises(InputError, match="the key 'seeds' occurs twice"):
        task.verify(place)
    (place / "ledger.json").write_text(text.replace('"made":"', '"made":"perhaps ', 1))
    with pytest.raises(InputError, match="made: String should match"):
        task.verify(place)


@pytest.mark.slow
def test_seeds_that_were_chosen_do_not_count(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "evidence"
    made(root, place, seeds=3)
    forger = Forger(place)
    of_seed_2 = next(
        run
        for run in (place / "runs").iterdir()
        if json.loads(zipfile.ZipFile(run).read("run.json"))["params"].get("training.seed") == "2"
    )
    of_seed_2.unlink()

    def without(said: Any) -> None:
        said["runs"].pop(of_seed_2.stem)
        said["faults"], said["confusions"] = [], []
        for claim in (*said["entries"], *said["beyond"], *said["curves"]):
            holder = claim.get("figure") or (claim if "parts" in claim else {})
            holder["evidence"] = [one for one in holder.get("evidence", []) if one["run"] != of_seed_2.stem]

    forger.ledger(without)
    forger.close()
    assert task.verify(place).differences, "seeds 1 and 3 are no consecutive seeds"


@pytest.mark.slow
def test_a_zip_file_is_a_bundle_too_and_another_machine_needs_nothing_else(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "evidence.zip"
    made(root, place, seeds=1)
    empty = tmp_path / "elsewhere"
    empty.mkdir()
    names = ("TRACKDL_DATA_DIR", "MLFLOW_TRACKING_URI", "TRACKDL_STORAGE", "TRACKDL_REPORT", "TRACKDL_GREEK_DIR")
    clean = {key: value for key, value in os.environ.items() if key not in names}
    code = (
        "import sys, runpy\n"
        "from trackdl.system import paths\n"
        f"paths.project_root = lambda: __import__('pathlib').Path({str(empty)!r})\n"
        "from trackdl.spec import base\n"
        f"base._table = lambda _: {_printed()!r}\n"
        "from trackdl.tasks import ledger\n"
        "ledger.project_root = paths.project_root\n"
        "from trackdl.data.download.datasets import DATASETS\n"
        "from trackdl.cli import app\n"
        f"sys.argv = ['trackdl', 'verify', {str(place)!r}]\n"
        "app.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=empty,
        env=clean | {"TRACKDL_DATA_DIR": str(empty / "none")},
        capture_output=True,
        text=True,
    )
    # The tiny images stand in MNIST's place in this process only, so elsewhere their digest is another data set's.
    assert "data.mnist: the ledger says" in done.stderr
    assert done.stderr.count("\n") == 2, done.stderr
    assert list(empty.iterdir()) == [], "a check made a store, or fetched data"


def _printed() -> list[dict[str, str]]:
    from trackdl.spec import base

    return base._table(Path("any"))


def test_what_is_no_bundle_is_refused_and_never_replaced(root: Path, tmp_path: Path) -> None:
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is there, and is no bundle"):
        made(root, mine)
    assert (mine / "thesis.tex").read_text() == "years of work"
    with pytest.raises(InputError, match=r"is no bundle: it has no ro-crate-metadata\.json"):
        task.verify(mine)
    for name in ("../out.txt", "/tmp/out.txt", "a/../../out.txt"):
        file = tmp_path / "bad.zip"
        with zipfile.ZipFile(file, "w") as made_file:
            made_file.writestr(name, "x")
        with pytest.raises(InputError, match="is an unsafe path"):
            task.verify(file)
    good = tmp_path / "good"
    made(root, good)
    hidden = json.dumps({"a": 1})
    for words, name, how in (
        ("in it twice", "ledger.json", zipfile.ZIP_DEFLATED),
        ("in another way than by deflate", "more.json", zipfile.ZIP_BZIP2),
    ):
        file = tmp_path / "strange.zip"
        with zipfile.ZipFile(file, "w") as made_file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made_file.writestr("ledger.json", hidden)
            made_file.writestr(name, hidden, how)
        with pytest.raises(InputError, match=words):
            task.verify(file)
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(InputError, match="cannot be read as a bundle"):
        task.verify(tmp_path / "text.zip")
    with pytest.raises(InputError, match="--retrain takes a bundle"):
        task.verify(made(root, tmp_path / "good").data, retrain=1)
    made(root, tmp_path / "good")  # a bundle may be replaced


@pytest.mark.slow
def test_a_figure_trained_again_is_the_same_and_a_forged_one_is_found(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "evidence"
    made(root, place, seeds=3)
    before = {path: path.stat().st_mtime_ns for path in root.glob("*.db")}
    assert task.verify(place, retrain=1).differences == []
    assert "agrees" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in root.glob("*.db")} == before, "it was trained in the user's store"

    def of_a_liar(self: evidence.Store, run: str, path: str) -> bytes:
        contents = {path: honest(self, run, path)}
        predictions(lambda it: it.update(labels=it["targets"].copy(), losses=it["losses"] * 0))(contents)
        return contents[path]

    honest = evidence.Store.fetch
    forged = tmp_path / "forged"
    with monkeypatch.context() as patch:
        patch.setattr(evidence.Store, "fetch", of_a_liar)
        patch.setattr(evidence, "contradictions", lambda _: [])
        made(root, forged, seeds=3)
    assert task.verify(forged).differences == []
    wrong = [words for seed in range(4) for words in task.verify(forged, retrain=1, seed=seed).differences]
    assert wrong, "of four figures none comes from predictions"
    assert all("on the platform that the ledger names, its evidence differs" in words for words in wrong)


def test_a_zip_file_that_claims_to_be_small_is_not_unpacked_beyond_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "bomb.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as made_file:
        made_file.writestr("ledger.json", bytes(300_000_000))
    content = file.read_bytes().replace((300_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    file.write_bytes(content)
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom trackdl.errors import InputError\n"
        "from trackdl.ledger import bundle\nbefore = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n with bundle.opened(Path(sys.argv[1])): pass\nexcept InputError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True)
    words, size = done.stdout.strip().split("\n")
    assert "bomb.zip: cannot be read as a bundle" in words
    assert int(size) < 200_000, "KiB"


@pytest.mark.slow
def test_evidence_of_any_form_is_refused_in_words(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "evidence"
    run = place / "runs" / f"{next(iter(made(root, place, seeds=1).ledger.runs))}.zip"
    forger = Forger(place)
    whole = run.read_bytes()
    record_of = "run.json is no record of a run"
    refused: dict[str, Callable[[], object]] = {
        "is not an ordinary file": lambda: (run.unlink(), os.mkfifo(run)),
        f"{record_of}.*'a' occurs twice": lambda: forger.run(lambda it: it.update({"run.json": b'{"a": 1, "a": 2}'})),
        record_of: lambda: forger.run(lambda it: it.update({"run.json": b"[" * 100_000})),
        "is of another run": lambda: forger.run(record(run="other")),
        "run.json cannot be read": lambda: run.write_bytes(whole[:-30]),
    }
    for words, change in refused.items():
        change()
        with pytest.raises(TrackdlError, match=words):
            task.verify(place)
        run.unlink()
        forger.restore()
    found: dict[str, Callable[[], object]] = {
        "a ring of parents": lambda: forger.run(record(tags={"mlflow.parentRunId": run.stem})),
        "a seed that is none": lambda: forger.run(record(params={"training.seed": "one"})),
        "an endless seed": lambda: forger.run(record(params={"training.seed": "9" * 500})),
        "another form": lambda: forger.run(predictions(lambda it: it.update(labels=it["labels"][:0]))),
        "no arrays": lambda: forger.run(
            lambda it: it.update({name: b"none" for name in it if name.startswith("predictions/")})
        ),
    }
    for what, change in found.items():
        change()
        forger.close()
        assert task.verify(place).differences, what
        forger.restore()


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["", ".zip"])
def test_the_crate_is_what_the_public_validator_calls_valid(root: Path, tmp_path: Path, ending: str) -> None:
    python = ROOT / ".venv-crate" / "bin" / "python"
    if not python.is_file():
        pytest.skip("the public RO-Crate validator is not installed: `make setup-crate`")
    place = tmp_path / f"evidence{ending}"
    made(root, place, seeds=1)
    check = [python, ROOT / "tests" / "support" / "validate_crate.py", place]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    if not ending:
        (place / "ledger.json").unlink()
        assert subprocess.run(check, capture_output=True).returncode == 1, "the validator finds nothing at all"
