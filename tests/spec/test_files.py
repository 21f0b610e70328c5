import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import ROOT
from trackdl import spec
from trackdl.errors import InputError

GOOD = """
task: classify
data: {dataset: mnist}
network: {family: digit}
training:
  epochs: 8
  batch_size: 64
  optimizer: {name: sgd, lr: 1e-2, momentum: 0.5}
  seed: 1
"""


def parse(text: str, overrides: dict[str, object] | None = None) -> spec.ClassifySpec:
    return spec.parse(text, "x.yaml", spec.ClassifySpec, overrides)


def test_a_resolved_file_reads_to_the_same_experiment() -> None:
    experiment = parse(GOOD, {"training.epochs": 3, "reload_after": 2})
    again = parse(spec.to_yaml(experiment))
    assert again == experiment
    assert spec.digest(again) == spec.digest(experiment)


def test_exponents_are_numbers() -> None:
    assert parse(GOOD).training.optimizer.lr == 0.01


def test_the_digest_is_of_what_decides_and_of_nothing_else() -> None:
    reported = GOOD + "reported: [{metric: test_loss, value: 1.0, quote: q}]\n"
    assert spec.digest(parse(reported)) == spec.digest(parse(GOOD))
    assert spec.digest(parse(GOOD, {"training.seed": 2})) != spec.digest(parse(GOOD))


def test_a_key_that_came_later_changes_nothing_until_it_is_set() -> None:
    later = {"training.schedule": "constant", "training.optimizer.weight_decay": 0.0, "training.augmentation.shift": 0}
    plain, said = parse(GOOD), parse(GOOD, later)
    assert said == plain
    assert spec.digest(said) == spec.digest(plain)
    # As it was before these keys came.
    assert spec.digest(plain) == "f260b3b9875de3e491812b700596b9d28d2d1f8b53c040b460b7d34cf4f15c32"
    assert spec.to_yaml(said) == spec.to_yaml(plain)
    assert not {"schedule", "augmentation", "weight_decay"} & set(spec.to_yaml(plain).replace(":", " ").split())
    assert "training.schedule" not in spec.flatten(plain)


def test_a_recipe_is_read_back_as_it_was() -> None:
    recipe = {
        "training.schedule": "one_cycle",
        "training.label_smoothing": 0.1,
        "training.optimizer.weight_decay": 5e-4,
        "training.optimizer.nesterov": True,
        "training.augmentation": {"flip": True},
    }
    experiment = parse(GOOD, recipe)
    assert parse(spec.to_yaml(experiment)) == experiment
    assert spec.digest(experiment) != spec.digest(parse(GOOD))
    assert spec.flatten(experiment)["training.augmentation.flip"] is True


@pytest.mark.parametrize("key", ["training.label_smoothing", "training.augmentation.shift"])
def test_a_table_is_not_trained_as_pictures_are(key: str) -> None:
    file = ROOT / "experiments" / "heart.yaml"
    with pytest.raises(InputError, match="label_smoothing and augmentation are for image classifiers"):
        spec.load(file, spec.TableSpec, {key: 0.5 if key.endswith("smoothing") else 1})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ("epochs: 8", "epoch: 8"),
            ["x.yaml", "'training.epoch'", "did you mean 'epochs'", "'training.epochs': missing"],
        ),
        (("epochs: 8", "epochs: eight"), ["'training.epochs'", "valid integer", "'eight'"]),
        (("epochs: 8", "epochs: 0"), ["'training.epochs'", "greater than or equal to 1"]),
        (("epochs: 8", "epochs: true"), ["'training.epochs'", "valid integer", "True"]),
        (
            ("name: sgd", "name: sdg"),
            ["'training.optimizer.name'", "'sgd', 'adam', 'adamw', 'rmsprop', 'adadelta' or 'adagrad'", "'sdg'"],
        ),
        (("name: sgd", "name: adam"), ["'training.optimizer'", "momentum is a setting of sgd and rmsprop"]),
        (("lr: 1e-2, momentum: 0.5", "lr: 1e-2, nesterov: true"), ["nesterov needs sgd with a momentum"]),
        (
            ("name: sgd, lr: 1e-2, momentum: 0.5", "name: adam, lr: 1e-2, weight_decay: 0.1"),
            ["weight_decay is a setting of sgd and adamw", "adam has none; its L2 penalty is `l2`"],
        ),
        (("seed: 1", "seed: 1\n  augmentation: {flop: true}"), ["'training.augmentation.flop'", "did you mean 'flip'"]),
        (("lr: 1e-2", "lr: .nan"), ["'training.optimizer.lr'", "finite"]),
        (("lr: 1e-2", "lr: -1"), ["'training.optimizer.lr'", "greater than 0"]),
        (("task: classify", "task: clasify"), ["'task'", "must be 'classify'", "'clasify'"]),
        (("data: {dataset: mnist}", "data: 3"), ["'data'", "a section of keys", "3"]),
        (("seed: 1", "seed: 1\n  seed: 2"), ["not valid YAML", "'seed' occurs twice", "line 10"]),
        (("seed: 1", "seed: &a 1\n  device: *a"), ["not valid YAML", "alias"]),
        (("seed: 1", "seed: [1"), ["not valid YAML"]),
        (("seed: 1", "seed: 1\n  1: 2"), ["not valid YAML", "not a string"]),
    ],
)
def test_what_is_wrong_is_named(change: tuple[str, str], words: list[str]) -> None:
    assert change[0] in GOOD
    with pytest.raises(InputError) as caught:
        parse(GOOD.replace(*change))
    for word in words:
        assert word in str(caught.value)


def test_an_override_is_named_as_one() -> None:
    with pytest.raises(InputError, match=r"'training.seed' \(set on the command line\)"):
        parse(GOOD, {"training.seed": -1})
    with pytest.raises(InputError, match=r"cannot be set: .task. is not a section"):
        parse(GOOD, {"task.x": 1})


@pytest.mark.parametrize("number", ["1:30", "-1:30.5", "1" + ":59" * 300_000])
def test_numbers_to_the_base_of_60_are_texts(number: str) -> None:
    """YAML 1.1 has them; one of 900 kB took 15 s to be worked out, and is no batch size."""
    with pytest.raises(InputError, match=r"training\.batch_size.*integer"):
        parse(GOOD.replace("batch_size: 64", f"batch_size: {number}"))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.yaml: cannot be read"):
        spec.load(tmp_path / "no.yaml", spec.ClassifySpec)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        spec.load(tmp_path / "binary", spec.ClassifySpec)
    (tmp_path / "large").write_bytes(b"#" * (spec.MAX_BYTES + 1))
    with pytest.raises(InputError, match="has more than 500,000 bytes"):
        spec.load(tmp_path / "large", spec.ClassifySpec)
    (tmp_path / "list").write_text("[1, 2]")
    with pytest.raises(InputError, match="found a list"):
        spec.load(tmp_path / "list", spec.ClassifySpec)


def test_what_is_no_file_is_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "zero"):
        with pytest.raises(InputError, match="cannot be read: it is not an ordinary file"):
            spec.load(path, spec.ClassifySpec)
    with pytest.raises(InputError, match=r"it cannot be opened \(File name too long\)"):
        spec.load(tmp_path / ("x" * 5000), spec.ClassifySpec)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (r'title: "\ud800"', "invalid Unicode character"),
        (f"title: {'[' * 50}{']' * 50}", "more than 40 levels"),
        ("title: &a x", "an alias .* or anchor"),
        ("reported: [{metric: test_accuracy, value: 98.2, quote: q}]", r"is a fraction, .*for 98.2 % write 0.982"),
        ("reported: [{metric: fit_seconds, value: -1, quote: q}]", "cannot be less than 0"),
    ],
)
def test_lines_that_are_refused(line: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse(f"{GOOD}{line}\n")


def test_a_number_without_end_is_text() -> None:
    assert parse(f"{GOOD}found_by: 0x{'f' * 90_000}\n").found_by.startswith("0xfff")


def test_one_fault_is_one_line_and_many_are_counted() -> None:
    with pytest.raises(InputError) as nan:
        parse(GOOD + "reported: [{metric: test_accuracy, value: .nan, quote: q}]\n")
    assert str(nan.value).count("\n") == 0
    with pytest.raises(InputError) as many:
        parse(GOOD + "".join(f"k{number}: 1\n" for number in range(500)))
    assert str(many.value).splitlines()[-1] == "and 488 more"
    assert len(str(many.value).splitlines()) == 13


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("training.momentum", "'training.optimizer.momentum'"),
        ("momentum", "'training.optimizer.momentum'"),
        ("data.batch_size", "'training.batch_size'"),
        ("training.momentun", "'training.optimizer.momentum'"),
        ("training.optimizer.momentun", "'momentum'"),
        ("trainig.optimizer", "'training'"),
    ],
)
def test_a_key_of_another_section_is_named_whole(key: str, words: str) -> None:
    with pytest.raises(InputError, match=f"unknown key; did you mean {words}\\? The keys here are"):
        parse(GOOD, {key: 1})


def test_an_unknown_key_in_a_list_names_its_neighbours() -> None:
    with pytest.raises(InputError, match=r"'reported.0.quot'.*did you mean 'quote'.*metric, epoch, value, quote"):
        parse(GOOD + "reported: [{metric: a, value: 1, quot: b}]\n")


@given(st.text(max_size=200))
def test_any_text_is_an_experiment_or_an_input_error(text: str) -> None:
    with pytest.raises(InputError):
        parse(text)


@given(st.sampled_from(GOOD.split()), st.text(alphabet="{}[]:,-&*!|>'\"\t 0e.~", max_size=6))
def test_a_file_with_one_word_changed_is_valid_or_an_input_error(word: str, new: str) -> None:
    changed = GOOD.replace(word, new, 1)
    try:
        parse(changed)
    except InputError as error:
        message = str(error)
    else:
        message = "x.yaml"
    assert message.startswith("x.yaml")


def test_a_logged_experiment_is_read_whatever_report_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = spec.named("mnist")
    text = spec.to_yaml(ours)
    monkeypatch.setenv("TRACKDL_REPORT", str(tmp_path))
    with pytest.raises(InputError):
        spec.parse(text, "x.yaml", spec.ClassifySpec)
    read = spec.logged(text, "x.yaml")
    assert isinstance(read, spec.ClassifySpec)
    assert (read.data, read.network, read.training) == (ours.data, ours.network, ours.training)
