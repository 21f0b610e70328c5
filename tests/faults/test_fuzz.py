"""Bytes from outside, whatever they are: an answer or one clear error; no hang, no traceback, and little memory."""

import io
import json
import resource
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from support import ROOT
from support.pictures import idx
from support.tables import own
from trackdl import serving, spec
from trackdl.data.preprocessing.image_files import FORMATS, LONGEST, read_image
from trackdl.data.readers import read_idx
from trackdl.errors import InputError, TrackdlError
from trackdl.ledger import check, formulas
from trackdl.ledger.archive import Record, Records
from trackdl.networks.digit import DigitNet
from trackdl.training import checkpoints

pytestmark = pytest.mark.faults

MOST = 600 * 2**10  # KiB of memory that all of a test's examples may add
EXAMPLES = settings(max_examples=150, deadline=5000, suppress_health_check=list(HealthCheck))
KINDS = {path.stem: path for path in sorted((ROOT / "experiments").glob("*.yaml"))}


@pytest.fixture(autouse=True)
def _memory_is_bounded() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST


def answers(read: Callable[[], Any], error: type[Exception] = TrackdlError) -> None:
    """Check that reading gives something, or an error for the user, and no other."""
    try:
        read()
    except error as problem:
        said = str(problem)
    else:
        return
    assert said.strip()
    assert len(said) < 20_000


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """Return a file with bytes changed, cut out, put in or cut off."""

    @st.composite
    def change(draw: st.DrawFn) -> bytes:
        content = bytearray(whole)
        for _ in range(draw(st.integers(1, 4))):
            at = draw(st.integers(0, len(content)))
            new = draw(st.binary(max_size=8))
            content[at : at + draw(st.integers(0, 8))] = new
        return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)

    return change()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def picture(kind: str, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((9, 7)).convert(mode).save(file, kind)
    return file.getvalue()


@EXAMPLES
@given(st.one_of(st.binary(max_size=100), damaged(idx(np.arange(24).reshape(2, 3, 4)))))
@example(bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1))
@example(bytes([0, 0, 8, 1]) + struct.pack(">I", 0))
def test_idx(content: bytes) -> None:
    answers(lambda: read_idx(content, "a file"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FORMATS)
@settings(EXAMPLES, max_examples=60)
@given(data=st.data())
def test_pictures(kind: str, data: st.DataObject) -> None:
    content = data.draw(damaged(picture(kind)))
    answers(lambda: read_image(content), InputError)


@pytest.mark.parametrize("size", [(70_000, 70_000), (2**31 - 1, 1), (0, 0)])
def test_a_picture_that_claims_to_be_huge(size: tuple[int, int]) -> None:
    whole = picture("PNG")
    at = whole.index(b"IHDR") + 4
    answers(lambda: read_image(whole[:at] + struct.pack(">2I", *size) + whole[at + 8 :]), InputError)


@pytest.mark.parametrize(("kind", "limit"), FORMATS.items())
def test_a_picture_of_as_many_pixels_as_its_format_may_have(kind: str, limit: int) -> None:
    side = int(limit**0.5)
    file = io.BytesIO()
    Image.linear_gradient("L").resize((side, side)).convert("RGB").save(file, kind)
    assert max(read_image(file.getvalue()).size) < 2 * LONGEST


TABLE = (ROOT / "data" / "heart" / "heart.csv").read_bytes()[:2000].rpartition(b"\n")[0] + b"\n"


@EXAMPLES
@given(content=st.one_of(st.binary(max_size=200), damaged(TABLE), st.text(max_size=200).map(str.encode)))
@example(content=TABLE.replace(b"40", b"1e400"))
@example(content=TABLE.splitlines()[0] + b"\n" + b'"' * 100_000)
@example(content=TABLE + b"," * 1_000_000)
def test_tables(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "a table.csv"
    for keys in ({"dataset": "heart", "target": None}, {"target": "HeartDisease"}):
        answers(lambda keys=keys: own(path, content, **keys), InputError)


@pytest.fixture(scope="module")
def whole_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    card = serving.ImageCard(
        network="DigitNet", arguments={"classes": 2}, classes=["a", "b"], mean=0.1, std=0.3, preprocessing=None
    )
    serving.write_model(folder, DigitNet(classes=2), card)
    return folder


def header(claims: dict[str, Any]) -> bytes:
    text = json.dumps(claims).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize("what", ["checkpoint", "model"])
@settings(EXAMPLES, max_examples=80)
@given(data=st.data())
def test_safetensors(
    what: str, data: st.DataObject, whole_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    weights = (whole_model / "weights.safetensors").read_bytes()[:3000]
    huge = header({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}})
    longest = struct.pack("<Q", 2**62) + b"{}"
    odd = header({"w": {"dtype": "F32", "shape": [0, 2**63], "data_offsets": [0, 0]}, "__metadata__": {"epoch": "x"}})
    content = data.draw(st.one_of(st.binary(max_size=100), damaged(weights), st.sampled_from([huge, longest, odd])))
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / "weights.safetensors"
    path.write_bytes(content)
    if what == "checkpoint":
        answers(lambda: checkpoints.read(path, {}))
        return
    (folder / "model.json").write_bytes((whole_model / "model.json").read_bytes())
    answers(lambda: serving.read_model(folder))


@EXAMPLES
@given(data=st.data())
def test_model_cards(data: st.DataObject, whole_model: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("card")
    (folder / "weights.safetensors").write_bytes((whole_model / "weights.safetensors").read_bytes())
    whole = json.loads((whole_model / "model.json").read_text())
    values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20), st.lists)
    for key in data.draw(st.sets(st.sampled_from(sorted(whole)), min_size=1)):
        whole[key] = data.draw(values | st.just({"classes": 10**12}) | st.just({"classes": -1}))
    (folder / "model.json").write_text(json.dumps(whole))
    answers(lambda: serving.read_model(folder))


RUN = "ab" * 16
SHA = "cd" * 32
FIGURE = {
    "task": "mnist",
    "metric": "test_accuracy",
    "epoch": 1,
    "unit": "fraction",
    "examples": 100,
    "mean": 0.5,
    "low": 0.4,
    "high": 0.6,
    "interval": "examples",
    "evidence": [
        {"run": RUN, "seed": 1, "artifacts": ["a.safetensors"], "formula": "accuracy", "select": "", "value": 0.5}
    ],
}
WHOLE_LEDGER: dict[str, Any] = {
    "format": 4,
    "report": {"title": "A report", "authors": "", "source": "", "year": None, "slug": "a-report"},
    "folder": "experiments",
    "experiments": {"mnist": {"kind": "classify", "title": "Task 1", "command": "trackdl mnist"}},
    "version": "0.1.0",
    "commit": None,
    "environment": {},
    "made": "2026-01-01T00:00:00+00:00",
    "seeds": None,
    "data": {"mnist": SHA},
    "code": {},
    "head": [],
    "entries": [],
    "curves": [],
    "hypotheses": [],
    "faults": [],
    "beyond": [
        {
            "title": "Beyond",
            "task": "mnist",
            "unit": "fraction",
            "published": 0.5,
            "figure": FIGURE,
            "words": "",
            "lead": True,
        },
    ],
    "runs": {
        RUN: {
            "task": "mnist",
            "name": "mnist",
            "model": "",
            "seed": 1,
            "source": "",
            "experiment_id": "1",
            "started": "2026-01-01T00:00:00Z",
            "version": "0.1.0",
            "commit": None,
            "uncommitted": False,
            "spec_digest": SHA,
            "data_digest": SHA,
            "code_digest": None,
            "command": "trackdl mnist",
            "artifacts": {"a.safetensors": SHA},
        }
    },
}


def test_the_ledger_that_is_damaged_is_whole_at_first(tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_text(json.dumps(WHOLE_LEDGER))
    assert check.load(tmp_path / "ledger.json").figures


def other_values(content: Any, data: st.DataObject) -> None:
    """Put something else somewhere into a JSON value."""
    at = content
    while True:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else list(range(len(at)))))
        if not isinstance(at[key], dict | list) or not at[key] or data.draw(st.integers(0, 4)) == 0:
            break
        at = at[key]
    at[key] = data.draw(values | st.sampled_from(["", "../../x", "\ud800", 10**400, -1, 1e308, [[]] * 50]))


class Runs(Records):
    """An archive of one run, of which an artifact is there."""

    def get(self, run: str) -> Record:
        if run != RUN:
            raise TrackdlError("there is no such run")
        tags = {"trackdl.task": "mnist", "trackdl.spec_digest": SHA, "trackdl.data_digest": SHA}
        return Record(
            run=run, name="", experiment_id="1", started="", status="FINISHED", tags=tags, params={"training.seed": "1"}
        )

    def fetch(self, run: str, path: str) -> bytes:
        raise TrackdlError(f"run {run} has no artifact {path}")


@pytest.mark.parametrize("how", ["bytes", "values"])
@EXAMPLES
@given(data=st.data())
def test_ledgers(how: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    if how == "bytes":
        content = data.draw(st.one_of(st.binary(max_size=200), damaged(json.dumps(WHOLE_LEDGER).encode())))
    else:
        changed = json.loads(json.dumps(WHOLE_LEDGER))
        other_values(changed, data)
        content = json.dumps(changed).encode()
    file = tmp_path_factory.mktemp("ledger") / "ledger.json"
    file.write_bytes(content)
    experiment = spec.load(KINDS["ledger"], spec.LedgerSpec)

    def verify() -> None:
        found = check.load(file)
        check.differences(found, experiment, {}, found.report, Runs(), check.spreads(found))

    answers(verify)


@pytest.mark.parametrize(
    "content", [b"[" * 10_000_000, b'{"a":' * 1_000_000, b"9" * 1_000_000, b'"' + b"\\u0000" * 10**6]
)
def test_ledgers_that_are_deep_or_long(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_bytes(content)
    with pytest.raises(InputError):
        check.load(tmp_path / "ledger.json")


def test_a_ledger_that_has_no_end(tmp_path: Path) -> None:
    with (tmp_path / "ledger.json").open("wb") as file:
        file.truncate(2**40)  # holes: it takes no room
    for path in (tmp_path / "ledger.json", tmp_path, tmp_path / "none.json"):
        with pytest.raises(InputError, match=r"larger|cannot be read"):
            check.load(path)


@EXAMPLES
@given(data=st.data())
def test_what_a_ledgers_figures_are_computed_from(data: st.DataObject) -> None:
    predictions = safetensors.numpy.save({"outputs": np.zeros((4, 3), np.float32), "targets": np.arange(4) % 3})
    tables = st.sampled_from([b"a,b\n1,2\n", b"[]", b"{}", b"null", b'[{"epoch": 1}]', b'{"a": [1, "x"]}'])
    files = data.draw(st.lists(st.one_of(st.binary(max_size=50), damaged(predictions), tables), max_size=3))
    formula = data.draw(st.sampled_from(sorted(formulas.FORMULAS)) | st.text(max_size=5))
    select = data.draw(st.text(max_size=8) | st.sampled_from(["1", "-1", "test_accuracy", "1e9"]))
    answers(lambda: formulas.compute(formula, files, select, data.draw(st.integers())))


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


def kind_of(name: str) -> Any:
    return spec.ReportSpec if name == "report" else type(spec.load_any(KINDS[name]))


@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("data", "grid-padded")])
@settings(EXAMPLES, max_examples=50)
@given(data=st.data())
def test_experiment_files(name: str, data: st.DataObject) -> None:
    text = KINDS[name].read_text(encoding="utf-8")
    content = data.draw(damaged(text.encode()[:3000])).decode("utf-8", "replace")
    answers(lambda: spec.parse(content, "a file", kind_of(name)), InputError)


@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("data", "grid-padded")])
@settings(EXAMPLES, max_examples=50)
@given(data=st.data())
def test_experiment_files_of_other_values(name: str, data: st.DataObject) -> None:
    content = yaml.safe_load(KINDS[name].read_text(encoding="utf-8"))
    at = content
    for _ in range(data.draw(st.integers(0, 3))):
        key = data.draw(st.sampled_from(sorted(at, key=str) if isinstance(at, dict) else list(range(len(at)))))
        if not isinstance(at[key], dict | list) or not at[key]:
            break
        at = at[key]
    key = data.draw(st.sampled_from(sorted(at, key=str) if isinstance(at, dict) else list(range(len(at)))))
    at[key] = data.draw(values)
    text = yaml.safe_dump(content, allow_unicode=True)
    answers(lambda: spec.parse(text, "a file", kind_of(name)), InputError)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("last", ["task: *a9", "task: classify\nextra: *a9", "task: classify\ntraining: *a9", "*a9"])
def test_an_experiment_file_that_grows_when_it_is_read(last: str) -> None:
    with pytest.raises(InputError):
        spec.parse(BOMB + last, "a file", spec.ClassifySpec)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "{" * 5000 + "}" * 5000, "task: " + "9" * 100_000, "? " * 5000, "task: !!python/object:os.x"],
)
def test_experiment_files_that_are_deep_or_long(text: str) -> None:
    with pytest.raises(InputError):
        spec.parse(text, "a file", spec.ClassifySpec)


LISTED = {
    "layers": [
        {"conv": "n", "size": 3, "fixed": "gabor"},
        {"repeat": 2, "layers": ["relu"]},
        {"residual": [{"conv": "2*n", "size": 3, "padding": 1, "stride": 2}, {"squeeze_excite": 2}]},
        "flatten",
        {"dense": "classes"},
    ]
}


@settings(EXAMPLES, max_examples=50)
@given(data=st.data())
def test_lists_of_layers(data: st.DataObject) -> None:
    """Any value anywhere in a list of layers is a network or an error of its own."""
    content = yaml.safe_load(KINDS["mnist"].read_text(encoding="utf-8"))
    content["network"] = {**json.loads(json.dumps(LISTED)), "with": {"n": 4}}
    at: Any = content["network"]
    for _ in range(data.draw(st.integers(0, 4))):
        key = data.draw(st.sampled_from(sorted(at, key=str) if isinstance(at, dict) else list(range(len(at)))))
        if not isinstance(at[key], dict | list) or not at[key]:
            break
        at = at[key]
    key = data.draw(st.sampled_from(sorted(at, key=str) if isinstance(at, dict) else list(range(len(at)))))
    at[key] = data.draw(values | st.integers() | st.floats() | st.sampled_from(["9*n", "n/9", "features", "same"]))
    text = yaml.safe_dump(content, allow_unicode=True)
    answers(lambda: spec.parse(text, "a file", spec.ClassifySpec), InputError)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("depth", [50, 400])
def test_repeats_in_repeats(depth: int) -> None:
    layers = "{repeat: 2, layers: [" * depth + "relu" + "]}" * depth
    text = f"task: classify\ndata: {{dataset: mnist}}\nnetwork: {{layers: [{layers}, {{dense: classes}}]}}\n"
    with pytest.raises(InputError, match="a file"):
        spec.parse(text, "a file", spec.ClassifySpec)
