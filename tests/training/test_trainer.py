from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from support.nets import fashion_net, layer_net
from support.pictures import blobs
from trackdl.data.images import lookup_table, normalise
from trackdl.errors import Diverged, InputError, TrackdlError
from trackdl.networks.digit import DigitNet
from trackdl.networks.head import freeze, replace_head
from trackdl.spec import Augmentation, Optimizer, Training
from trackdl.training.augmentation import mix
from trackdl.training.devices import resolve_device, resolve_precision
from trackdl.training.trainer import Examples, Trainer, seeded

SGD = Optimizer(name="sgd", lr=0.05, momentum=0.5)
ADAM = Optimizer(name="adam", lr=0.001)
AMSGRAD = Optimizer(name="adam", lr=0.001, betas=[0.8, 0.9], amsgrad=True, l2=0.001)
ADADELTA, ADAGRAD = Optimizer(name="adadelta", lr=1.0), Optimizer(name="adagrad", lr=0.01)
RMSPROP = Optimizer(name="rmsprop", lr=0.001, momentum=0.5, alpha=0.9, l2=0.001)
RECIPE = {"label_smoothing": 0.1, "augmentation": Augmentation(flip=True, shift=2, cutout=4)}


def settings(optimizer: Optimizer = SGD, seed: int = 1, precision: str = "float32") -> Training:
    return Training(epochs=8, batch_size=32, optimizer=optimizer, seed=seed, device="cpu", precision=precision)


@pytest.fixture(scope="module")
def examples() -> Examples:
    pictures, labels = blobs(200, 0)
    return Examples(torch.from_numpy(pictures)[:, None].float() / 128 - 1, torch.from_numpy(labels.astype(np.int64)))


def trained(examples: Examples, epochs: int, *args: object) -> Trainer:
    trainer = Trainer(DigitNet, settings(*args), F.nll_loss)
    list(trainer.fit(examples, epochs))
    return trainer


def same(a: Trainer, b: Trainer) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.model.parameters(), b.model.parameters(), strict=True))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_one_seed_gives_one_network(examples: Examples, precision: str) -> None:
    first = trained(examples, 2, SGD, 1, precision)
    torch.manual_seed(99)  # whoever else draws random numbers changes nothing
    assert same(first, trained(examples, 2, SGD, 1, precision))
    assert not same(first, trained(examples, 2, SGD, 2, precision))


def test_training_leaves_the_callers_random_numbers_alone(examples: Examples) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trained(examples, 1)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("optimizer", [SGD, ADAM, AMSGRAD, RMSPROP, ADADELTA, ADAGRAD], ids=lambda one: one.name)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_stopped_and_resumed_ends_in_the_same_weights(
    examples: Examples, tmp_path: Path, optimizer: Optimizer, precision: str
) -> None:
    straight = trained(examples, 8, optimizer, 1, precision)
    trained(examples, 3, optimizer, 1, precision).save(tmp_path / "c.safetensors")
    resumed = Trainer(DigitNet, settings(optimizer, 1, precision), F.nll_loss)
    resumed.load(tmp_path / "c.safetensors")
    assert resumed.epoch == 3
    assert [result.epoch for result in resumed.fit(examples, 8)] == [4, 5, 6, 7, 8]
    assert same(straight, resumed)
    assert resumed.examples_seen == straight.examples_seen == 8 * 200


def recipe_trainer(optimizer: Optimizer, schedule: str, precision: str) -> Trainer:
    """Return a trainer with everything switched on: batch norms, smoothed labels, augmentation, a schedule."""
    said = settings(optimizer, 1, precision).model_copy(update={**RECIPE, "schedule": schedule})
    return Trainer(lambda: fashion_net(filters=4, dense_nodes=8, batch_norm=True), said, F.cross_entropy)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
@pytest.mark.parametrize(
    "optimizer",
    [
        Optimizer(name="adamw", lr=0.01, weight_decay=0.05),
        Optimizer(name="sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
    ],
    ids=["adamw", "sgd"],
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_recipe_trained_in_segments_ends_in_the_same_state(
    examples: Examples, tmp_path: Path, optimizer: Optimizer, schedule: str, precision: str
) -> None:
    straight = recipe_trainer(optimizer, schedule, precision)
    list(straight.fit(examples, 8))
    for reached in (1, 3, 8):
        segment = recipe_trainer(optimizer, schedule, precision)
        if reached > 1:
            segment.load(tmp_path / "c.safetensors")
        for _ in segment.fit(examples, reached):
            segment.evaluate(examples)
        segment.save(tmp_path / "c.safetensors")
    ours, theirs = segment.model.state_dict(), straight.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert {name for name in ours if not torch.equal(ours[name], theirs[name])} == set()
    statistics = [t for name, t in ours.items() if "running" in name]
    assert len(statistics) == 4
    assert {t.dtype for t in statistics} == {torch.float32}


def test_each_step_takes_the_schedules_rate(examples: Examples) -> None:
    taken = []
    trainer = recipe_trainer(SGD, "cosine", "float32")
    trainer.optimizer.register_step_pre_hook(lambda o, *_: taken.append(o.param_groups[0]["lr"]))
    list(trainer.fit(examples, 8))
    assert taken == pytest.approx([0.05 * (1 + np.cos(np.pi * i / 56)) / 2 for i in range(56)])


def test_a_schedule_that_has_ended_trains_no_further(examples: Examples) -> None:
    with pytest.raises(ValueError, match="epoch 9: the learning rate's schedule ends with epoch 8"):
        next(recipe_trainer(SGD, "cosine", "float32").fit(examples, 9))


def test_only_training_is_smoothed_and_augmented(examples: Examples) -> None:
    trainer = recipe_trainer(ADAM, "constant", "float32")
    found = trainer.evaluate(examples)
    assert found.loss == pytest.approx(F.cross_entropy(found.outputs, examples.targets).item(), rel=1e-5)
    assert torch.equal(found.outputs, trainer.evaluate(examples).outputs)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_training_and_says_where(examples: Examples, poison: float) -> None:
    trainer = Trainer(DigitNet, settings(), F.nll_loss)
    plain, calls = trainer.train_loss, 0

    def poisoned(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return plain(outputs, targets) * (poison if calls == 10 else 1)

    trainer.train_loss = poisoned
    with pytest.raises(Diverged, match=rf"epoch 2, batch 3: the loss is {poison}.*training\.optimizer\.lr than 0\.05"):
        list(trainer.fit(examples, 8))


def test_a_diverged_training_does_not_run_on_to_the_epochs_end(examples: Examples) -> None:
    large = Optimizer(name="sgd", lr=100.0)
    trainer = Trainer(DigitNet, settings(large).model_copy(update={"batch_size": 1}), F.nll_loss)
    steps = []
    trainer.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    with pytest.raises(Diverged):
        list(trainer.fit(examples, 1))
    assert len(steps) < 200
    assert trainer.epoch == 0


def test_an_epoch_tells_how_far_it_is_and_ends_in_the_same_weights(examples: Examples) -> None:
    told: list[tuple[int, int, float]] = []
    one = settings().model_copy(update={"batch_size": 3})
    watched, alone = Trainer(DigitNet, one, F.nll_loss), Trainer(DigitNet, one, F.nll_loss)
    (result,) = watched.fit(examples, 1, lambda *said: told.append(said))
    list(alone.fit(examples, 1))
    assert [said[:2] for said in told] == [(150, 200), (200, 200)]  # 67 batches, of which the last has two examples
    assert told[0][2] == pytest.approx(result.losses[:50].mean())
    assert same(watched, alone)


def test_looking_at_the_network_between_epochs_changes_nothing(examples: Examples) -> None:
    looked = Trainer(DigitNet, settings(), F.nll_loss)
    for _ in looked.fit(examples, 3):
        looked.evaluate(examples)
    assert same(looked, trained(examples, 3))


def test_it_learns(examples: Examples) -> None:
    trainer = Trainer(DigitNet, settings(), F.nll_loss)
    before = trainer.evaluate(examples)
    results = list(trainer.fit(examples, 8))
    after = trainer.evaluate(examples)
    assert after.loss < 0.5 * before.loss
    assert after.accuracy > 0.8
    assert after.correct == int((after.outputs.argmax(1) == examples.targets).sum())
    assert results[-1].train_loss < results[0].train_loss


def test_an_epochs_curve_is_stepped_by_examples_seen(examples: Examples) -> None:
    trainer = Trainer(DigitNet, settings(), F.nll_loss)
    first, second = trainer.fit(examples, 2)
    assert [step for step, _ in first.batch_losses] == [0]  # seven batches of 32: one in ten
    assert [step for step, _ in second.batch_losses] == [200]
    many = Trainer(DigitNet, settings().model_copy(update={"batch_size": 5}), F.nll_loss)
    assert [step for step, _ in next(many.fit(examples, 1)).batch_losses] == [0, 50, 100, 150]


def test_frozen_weights_stay(examples: Examples) -> None:
    def build() -> DigitNet:
        network = DigitNet()
        freeze(network)
        replace_head(network, 10)
        return network

    trainer = Trainer(build, settings(), F.nll_loss)
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    list(trainer.fit(examples, 1))
    changed = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"fc2.weight", "fc2.bias"}


@pytest.mark.parametrize("frozen", ["body", "convolutions", "nothing"])
def test_exactly_what_is_frozen_stays_statistics_included(examples: Examples, frozen: str) -> None:
    layers = [{"conv": 4, "size": 3}, "batch_norm", "relu", {"pool": 4}, "flatten", "batch_norm", {"dense": 6}, "relu"]

    def prepared() -> nn.Module:
        network = layer_net(*layers, {"dense": "classes", "bias": False})
        freeze(network, frozen)
        replace_head(network, 5)
        return network

    trainer = Trainer(prepared, settings(), F.cross_entropy)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    fewer = Examples(examples.inputs, examples.targets % 5)
    list(trainer.fit(fewer, 1))
    after = trainer.model.state_dict()
    # Of the layers, the first convolution and its norm are 0 and 1, the norm of numbers 5, the linear ones 6 and 8.
    changed = {int(name.split(".")[1]) for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"body": {8}, "convolutions": {5, 6, 8}, "nothing": {0, 1, 5, 6, 8}}[frozen]
    assert "layers.8.bias" not in after  # as the head that it replaces
    assert trainer.evaluate(fewer).outputs.shape == (200, 5)


def test_fused_steps_are_plain_steps(examples: Examples) -> None:
    """The loop does what a plain float32 loop over the same batches does."""
    trainer = trained(examples, 1)
    with seeded(1):
        plain = DigitNet()
        state = torch.get_rng_state()
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.5)
    with torch.random.fork_rng():
        torch.set_rng_state(state)
        for batch in order.split(32):
            optimizer.zero_grad()
            F.nll_loss(plain(examples.inputs[batch]), examples.targets[batch]).backward()
            optimizer.step()
    for ours, theirs in zip(trainer.model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_precision_is_what_was_asked_for() -> None:
    cpu = torch.device("cpu")
    assert resolve_precision("float32", cpu) is torch.float32
    assert resolve_precision("bfloat16", cpu) is torch.bfloat16
    assert resolve_precision("auto", cpu) in (torch.float32, torch.bfloat16)
    assert resolve_precision("auto", torch.device("mps")) is torch.float32


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_here_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"--device {name} .*which has cpu"):
        resolve_device(name)
    assert resolve_device("auto").type == "cpu"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("keys", [{}, RECIPE], ids=["plain", "augmented"])
def test_images_are_normalised_batch_by_batch_as_in_advance(
    channels: int, precision: str, keys: dict[str, object]
) -> None:
    pixels = torch.randint(5, 250, (90, *([] if channels == 1 else [3]), 12, 12), generator=torch.manual_seed(3))
    pixels, labels = pixels.to(torch.uint8), torch.arange(90) % 5
    constants = (0.3, 0.4) if channels == 1 else ((0.3, 0.4, 0.5), (0.2, 0.4, 0.3))
    how = settings(precision=precision).model_copy(update=keys)

    def build() -> nn.Module:
        layers = nn.Conv2d(channels, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5)
        return nn.Sequential(*layers)

    def fitted(make: Callable[[torch.dtype], Examples]) -> tuple[Trainer, torch.Tensor]:
        trainer = Trainer(build, how, F.cross_entropy)
        list(trainer.fit(make(trainer.dtype), 2))
        return trainer, trainer.evaluate(make(torch.float32)).outputs

    advance, expected = fitted(lambda dtype: Examples(normalise(pixels, *constants, dtype), labels))
    batches, outputs = fitted(lambda _: Examples(pixels, labels, lookup_table(*constants)))
    assert same(advance, batches)
    assert torch.equal(outputs, expected)


def test_some_of_the_examples_keep_their_normalisation() -> None:
    pixels = torch.arange(4 * 9, dtype=torch.uint8).view(4, 3, 3)
    whole = Examples(pixels, torch.arange(4), lookup_table(0.1, 0.2))
    some = whole.select(torch.tensor([3, 1]))
    assert some.targets.tolist() == [3, 1]
    assert torch.equal(some.ready(), normalise(pixels[[3, 1]], 0.1, 0.2))
    assert whole.least() == whole.ready().min().item()


EMA = {"ema": 0.9, "augmentation": Augmentation(shift=1, mixup=0.4)}


def averaged(precision: str = "float32", **keys: object) -> Trainer:
    said = settings(Optimizer(name="adam", lr=0.01), 1, precision).model_copy(update=EMA | keys)
    return Trainer(lambda: fashion_net(filters=4, dense_nodes=8, batch_norm=True), said, F.cross_entropy)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_moving_average_with_mixup_resumes_in_the_same_state(
    examples: Examples, tmp_path: Path, precision: str
) -> None:
    straight, broken = averaged(precision), averaged(precision)
    list(straight.fit(examples, 4))
    list(broken.fit(examples, 2))
    broken.save(tmp_path / "c.safetensors")
    resumed = averaged(precision)
    resumed.load(tmp_path / "c.safetensors")
    list(resumed.fit(examples, 4))
    for ours, theirs in ((straight.model, resumed.model), (straight.learner, resumed.learner)):
        found = theirs.state_dict()
        assert {name for name, one in ours.state_dict().items() if not torch.equal(one, found[name])} == set()
    plain = Trainer(lambda: fashion_net(filters=4, dense_nodes=8, batch_norm=True), settings(), F.cross_entropy)
    plain.save(tmp_path / "plain.safetensors")
    with pytest.raises(TrackdlError, match=r"'learner\..*' is missing"):
        averaged().load(tmp_path / "plain.safetensors")


def test_the_average_is_of_the_weights_after_each_step_and_is_evaluated(examples: Examples) -> None:
    trainer = averaged(augmentation=Augmentation())
    states: list[dict[str, torch.Tensor]] = []

    def keep(*_: object) -> None:
        states.append({name: one.clone() for name, one in trainer.learner.state_dict().items()})

    trainer.optimizer.register_step_post_hook(keep)
    list(trainer.fit(examples, 2))
    ours = trainer.model.state_dict()
    assert len([name for name in ours if "running" in name]) == 4
    for name, value in ours.items():
        if value.is_floating_point():
            expected = states[0][name]
            for state in states[1:]:
                expected = 0.9 * expected + 0.1 * state[name]
            assert torch.allclose(value, expected, atol=1e-6), name
    assert trainer.model is not trainer.learner
    assert torch.equal(trainer.evaluate(examples).outputs, trainer.model(examples.inputs.contiguous()).detach())


def test_mixup_learns_from_both_targets_and_counts_the_larger(examples: Examples) -> None:
    some = examples.select(torch.arange(32))
    trainer = averaged(ema=None)
    assert trainer.model is trainer.learner
    with seeded(3):
        mixed, others, share = mix(some.inputs, some.targets, 0.4)
    assert 0.5 <= share < 1
    with seeded(3):
        torch.distributions.Beta(0.4, 0.4).sample()
        order = torch.randperm(32)
    assert torch.equal(others, some.targets[order])
    assert torch.allclose(mixed, share * some.inputs + (1 - share) * some.inputs[order])

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        given.append(targets)
        return F.cross_entropy(outputs, targets)

    given: list[torch.Tensor] = []
    said = settings().model_copy(update={"epochs": 1, "augmentation": Augmentation(mixup=1.0), "shuffle": False})
    (result,) = Trainer(DigitNet, said, loss).fit(examples, 1)
    assert len(given) == 2 * len(result.sizes)
    assert torch.equal(torch.cat(given[::2]), examples.targets)
    assert not torch.equal(torch.cat(given[1::2]), examples.targets)
    assert torch.equal(torch.cat(given[1::2]).sort().values, examples.targets.sort().values)
