"""What a report leaves out: stated in words or by key, and made into candidates."""

from pathlib import Path

import pytest

from support import ROOT
from trackdl import spec
from trackdl.errors import InputError
from trackdl.spec import RecoverSpec

SIGNS = """
task: classify
data: {sklearn: digits, validation: 0.2, size: 8}
network: {family: conv, conv_layers: 1, filter_size: 3, filters: 2, dense_nodes: 8, dropout: 0.1, pool_size: 2,
  activation: relu, padding: none}
training: {epochs: 2, batch_size: 10, optimizer: {name: adam, lr: 0.001}, seed: 1}
reported:
  - {metric: test_accuracy, value: 0.5, quote: "50 %"}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a report's folder of its own."""
    monkeypatch.setenv("TRACKDL_REPORT", str(tmp_path))
    return tmp_path


def recovery(folder: Path, unknown: str, **overrides: object) -> RecoverSpec:
    (folder / "signs.yaml").write_text(f"{SIGNS}unknown: {unknown}\n", encoding="utf-8")
    return spec.recovery_of("signs", overrides)


def test_candidates_are_all_combinations_of_what_is_unknown(folder: Path) -> None:
    told = recovery(
        folder, "{words: much, training.optimizer.lr: [0.01, 1], network.padding: [none, 1, same]}", seeds=4
    )
    assert (told.name, told.seeds, told.grid.fits, told.grid.judge.by) == ("recover-signs", 4, 4, "validation")
    assert len(told.candidates()) == 6
    assert told.candidates()[1] == {"training.optimizer.lr": 0.01, "network.padding": 1}
    assert spec.named("signs").unknown_words == "much"
    again = spec.parse(spec.to_yaml(told), "x.yaml", RecoverSpec)  # the run's experiment.yaml
    assert again == told
    assert spec.recovery_of("recover-signs", {"seeds": 4}) == told
    assert set(spec.recoveries()) == {"recover-signs"}


def test_dropout_while_validating_needs_no_trainings_of_its_own(folder: Path) -> None:
    told = recovery(folder, "{network.dropout: [0.1, 0.5], dropout_while_validating: [false, true]}")
    assert len(told.candidates()) == 4
    assert len(told.grid.cells("report")) == 2
    alone = recovery(folder, "{dropout_while_validating: [false, true]}")
    assert alone.candidates() == [{"dropout_while_validating": False}, {"dropout_while_validating": True}]
    assert len(alone.grid.cells("report")) == 1


def test_the_study_is_neither_a_grids_nor_that_of_other_seeds_or_candidates(folder: Path) -> None:
    told = recovery(folder, "{network.dropout: [0.1, 0.5]}")
    name = told.grid.study("report")
    assert name.startswith("recover-grid-report-")
    assert (
        recovery(folder, "{network.dropout: [0.1, 0.5], dropout_while_validating: [true]}").grid.study("report") == name
    )
    assert recovery(folder, "{network.dropout: [0.1, 0.5]}", **{"training.seed": 9}).grid.study("report") == name
    assert recovery(folder, "{network.dropout: [0.1, 0.5]}", seeds=6).grid.study("report") != name
    assert recovery(folder, "{network.dropout: [0.1, 0.4]}").grid.study("report") != name


def test_what_validates_nothing_is_judged_by_its_test(folder: Path) -> None:
    (folder / "signs.yaml").write_text(
        SIGNS.replace("validation: 0.2, ", "") + "unknown: {network.dropout: [0.1, 0.5]}\n", encoding="utf-8"
    )
    assert spec.recovery_of("signs").grid.judge.by == "test"


def test_a_combination_that_is_no_network_is_no_candidate(folder: Path) -> None:
    told = recovery(folder, "{network.filter_size: [3, 5], network.pool_size: [2, 5]}")
    assert {"network.filter_size": 5, "network.pool_size": 5} not in told.candidates()
    assert len(told.candidates()) == 3
    ((cell, reason),) = told.grid.impossible("report")
    assert cell == {"filter_size": 5, "pool_size": 5}
    assert "4×4 pixels are left" in reason


@pytest.mark.parametrize(
    ("unknown", "words"),
    [
        ("the seed", ["key 'unknown' must list what the report leaves out, by key", "{network.padding: [none, same]}"]),
        ("{words: the seed}", ["nothing to recover", "key 'unknown' must list"]),
        ("{network.dropout: [0.5]}", ["key 'unknown'", "no key has two values"]),
        ("{network.dropout: 0.5}", ["key 'unknown.network.dropout': input should be a valid list, but is 0.5"]),
        ("{network.dropout: high}", ["unknown: network.dropout: must be a list of the values that it may have"]),
        ("{network.dropout: [0.5, 0.5]}", ["key 'unknown': network.dropout lists a value twice"]),
        ("{network.dropout: [0.1, 7]}", ["unknown: network.dropout: 7"]),
        ("{network.droput: [0.1, 0.7]}", ["unknown: network.droput"]),
        ("{data.validation: [0.1, 0.2]}", ["key 'unknown': data.validation: must be a key of network or training"]),
        ("{training.seed: [1, 2]}", ["training.seed: must be a key of network or training, and not the seed"]),
        ("{training.optimizer.eps: [null, 0.1]}", ["key 'unknown.training.optimizer.eps.0", "must be one value"]),
        (
            "{training.optimizer.betas: [[0.9, 0.99], [0.5, 0.9]]}",
            ["key 'unknown.training.optimizer.betas.0", "one value"],
        ),
        ("{dropout_while_validating: [1, 0]}", ["dropout_while_validating: may be true or false"]),
        ("{dropout_while_validating: [true, true]}", ["dropout_while_validating: may be true or false, each once"]),
    ],
)
def test_what_cannot_be_recovered_names_file_and_key(folder: Path, unknown: str, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        recovery(folder, unknown)
    said = str(caught.value)
    assert str(folder / "signs.yaml") in said
    assert [word for word in words if word not in said] == [], said
    assert "validation error" not in said
    assert "space" not in said


def test_what_cannot_be_tried_is_no_recovery_and_stops_no_other(folder: Path) -> None:
    (folder / "other.yaml").write_text(SIGNS + "unknown: {data.size: [8, 9]}\n", encoding="utf-8")
    recovery(folder, "{network.dropout: [0.1, 0.5]}")
    assert set(spec.recoveries()) == {"recover-signs"}
    (folder / "recover-other.yaml").write_text("task: recover\nof: other\nseeds: 1\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"recover-other\.yaml"):
        spec.recoveries()


def test_dropout_while_validating_needs_a_validation_split(folder: Path) -> None:
    text = SIGNS.replace("validation: 0.2, ", "") + "unknown: {dropout_while_validating: [false, true]}\n"
    (folder / "signs.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"signs\.yaml: key 'unknown': dropout_while_.*it has no data\.validation"):
        spec.recovery_of("signs")


def test_too_few_seeds_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"key 'seeds' \(set on the command line\): .*greater than or equal to 3"):
        recovery(folder, "{network.dropout: [0.1, 0.5]}", seeds=2)


def test_a_file_may_state_the_recovery(folder: Path) -> None:
    own = folder / "recover-signs.yaml"
    own.write_text("task: recover\nof: signs\nset: {training.epochs: 1}\nseeds: 3\n", encoding="utf-8")
    told = recovery(folder, "{network.dropout: [0.1, 0.5]}")
    assert (told.experiment.training.epochs, told.seeds, len(told.candidates())) == (1, 3, 2)
    assert spec.load_any(own) == told
    own.write_text(own.read_text() + "space: {network.filter_size: [3, 9], network.padding: [none, same]}\n")
    assert len(spec.recovery_of("signs").candidates()) == 3  # 9×9 pixels of 8×8 only with padding


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (SIGNS, "key 'task': this is the name of the recovery of 'signs', so it must be 'recover', but is 'classify'"),
        ("task: recover\nof: other\n", "key 'of': must be 'signs', as the file is called, not 'other'"),
        ("task: recover\n", "key 'of': must be the name of an experiment"),
        ("task: recover\nof: signs\nspace: {data.size: [8, 9]}\n", "space: data.size: must be a key of network or"),
    ],
)
def test_another_file_of_that_name_is_refused(folder: Path, content: str, words: str) -> None:
    (folder / "recover-signs.yaml").write_text(content, encoding="utf-8")
    (folder / "other.yaml").write_text(SIGNS + "unknown: {network.dropout: [0.1, 0.5]}\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        recovery(folder, "{network.dropout: [0.1, 0.5]}")
    assert words in str(caught.value)
    assert str(folder / "recover-signs.yaml") in str(caught.value)


def test_an_experiment_may_be_called_like_a_recovery(folder: Path) -> None:
    text = SIGNS + "unknown: {network.dropout: [0.1, 0.5]}\n"
    (folder / "recover-all.yaml").write_text(text, encoding="utf-8")
    assert spec.recovery_of("recover-all").name == "recover-recover-all"


@pytest.mark.parametrize("name", ["signs", "../signs", "a/b"])
def test_an_experiment_that_is_not_there_is_named(folder: Path, name: str) -> None:
    with pytest.raises(InputError, match=name):
        spec.recovery_of(name)
    assert not list(folder.iterdir())


def test_the_seeds_own_recovery_asks_for_the_padding_and_the_dropout() -> None:
    told = spec.load(ROOT / "experiments" / "fashion.yaml", spec.ClassifySpec)
    assert set(told.candidates) == {"network.padding", "network.dropout_after", "dropout_while_validating"}
    assert len(spec.recovery_of("fashion").candidates()) == 8
