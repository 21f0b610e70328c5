"""Training and evaluation of a network, reproducible from a seed. Yields a result per epoch; knows nothing of tracking.

    trainer = Trainer(lambda: DigitNet(), spec.training, loss=F.nll_loss)
    for result in trainer.fit(train, epochs=8):
        print(result.epoch, trainer.evaluate(test).accuracy)

The data are tensors in memory, normalised once, or each batch if they are large; a step selects its batch by index. A
trainer owns its random states: the same seed gives bit-identical weights on one machine, whatever other code draws
random numbers meanwhile, and a trainer that is saved and loaded continues as if it had never stopped.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trackdl.data.images import look_up
from trackdl.errors import Diverged
from trackdl.spec import Training
from trackdl.training import checkpoints
from trackdl.training.augmentation import augment, mix
from trackdl.training.devices import deterministic, resolve_device, resolve_precision
from trackdl.training.optim import Loss, make_optimizer, rate, smoothed

# The report logs the loss of every tenth batch.
LOG_EVERY = 10

# Losses are checked once in this many batches: it waits for an accelerator, and stops a training that has diverged.
CHECK_EVERY = 50

# Fits a processor's cache: on one thread, twice as fast as batches of 1000.
EVALUATION_BATCH = 100

# Called with how many training examples an epoch has used, how many it has, and the mean loss of the latest batches.
OnBatches = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Examples:
    """Inputs and targets of a network.

    Attributes:
        inputs: Float [n, ...], ready for the network; with a `table`, images of uint8, a quarter of the memory.
        targets: [n].
        table: As from `data.images.lookup_table`: it normalises each batch when it is used.
    """

    inputs: Tensor
    targets: Tensor
    table: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device, dtype: torch.dtype) -> "Examples":
        """Return the examples on `device`, the network's inputs as `dtype`."""
        if self.table is None:
            return Examples(self.inputs.to(device, dtype), self.targets.to(device))
        return Examples(self.inputs.to(device), self.targets.to(device), self.table.to(device, dtype))

    def select(self, indices: Tensor) -> "Examples":
        """Return some of the examples."""
        # index_select takes a quarter of the time of indexing.
        return Examples(self.inputs.index_select(0, indices), self.targets.index_select(0, indices), self.table)

    def ready(self) -> Tensor:
        """Return the network's inputs."""
        return self.inputs if self.table is None else look_up(self.inputs, self.table)

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield the network's inputs in order, `size` at a time."""
        for inputs in torch.split(self.inputs, size):
            yield inputs if self.table is None else look_up(inputs, self.table)

    def least(self) -> float:
        """Return the smallest value of the network's inputs."""
        if self.table is None:
            return self.inputs.min().item()
        tones = self.inputs.amin((0, 2, 3)) if self.inputs.ndim == 4 else self.inputs.min()
        return self.table.gather(1, tones.long().view(-1, 1)).min().item()


@dataclass(frozen=True)
class Evaluation:
    """A network's mean loss, number of correct predictions, and outputs, float32 [n, ...], on a set of examples."""

    loss: float
    correct: int
    total: int
    outputs: Tensor

    @property
    def accuracy(self) -> float:
        """The fraction of correct predictions."""
        return self.correct / self.total


@dataclass(frozen=True)
class EpochResult:
    """One epoch of training.

    `train_loss` and `train_accuracy` are means over the epoch's batches, computed before each step in training mode.
    With mixup a prediction is correct if it is the target of the image with the larger part.
    `batch_losses` holds (training examples seen before the batch, its loss) for every tenth batch. `losses`, `right`
    and `sizes`, [batches], are each batch's loss, number of correct predictions, and number of examples. `cpu_seconds`
    is processor time; other work on the machine lengthens it less than `seconds`.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    batch_losses: list[tuple[int, float]]
    seconds: float
    cpu_seconds: float
    examples: int
    losses: NDArray[np.float32] = field(compare=False)
    right: NDArray[np.int32] = field(compare=False)
    sizes: NDArray[np.int32] = field(compare=False)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's random numbers within the block; its state outside of the block does not change."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@torch.inference_mode()
def outputs_of(model: nn.Module, inputs: Tensor | Examples, batch_size: int = EVALUATION_BATCH) -> Tensor:
    """Return a network's outputs in evaluation mode for `inputs`, float32 [n, ...] on its device."""
    model.eval()
    batches = inputs.batches(batch_size) if isinstance(inputs, Examples) else torch.split(inputs, batch_size)
    return torch.cat([model(batch) for batch in batches])


@torch.inference_mode()
def evaluate_with_dropout(trainer: "Trainer", examples: Examples) -> Evaluation | None:
    """Evaluate as `Trainer.evaluate` does, but with the network's dropout layers active; None if nothing is dropped.

    The training's seed and epoch determine what they drop; the training's own random state does not change.
    """
    model = trainer.model.eval()
    dropout = [layer for layer in model.modules() if isinstance(layer, nn.Dropout | nn.Dropout2d) and layer.p]
    if not dropout:
        return None
    for layer in dropout:
        layer.train()
    ready = examples.to(trainer.device, torch.float32)
    with seeded((trainer.settings.seed + trainer.epoch) % 2**63):
        outputs = torch.cat([model(batch) for batch in ready.batches(EVALUATION_BATCH)])
    model.eval()
    return Evaluation(
        loss=trainer.loss(outputs, ready.targets).item(),
        correct=int((trainer.decide(outputs) == ready.targets).sum()),
        total=len(examples),
        outputs=outputs.cpu(),
    )


class Trainer:
    """A network in training, with its optimiser, its random states and its progress.

    `model` is what is evaluated and kept: the network that the optimiser changes, `learner`, or with `settings.ema` the
    moving average of its weights and of its buffers, such as the statistics of batch norm.

    Args:
        build: Makes the network; called with torch seeded by `settings.seed`, which determines the initial weights.
        settings: The experiment's training section.
        loss: Mean loss of outputs and targets.
        decide: Turns outputs into predictions, which are compared with the targets.

    Raises:
        ValueError: The settings ask for label smoothing, and the loss is not a classification loss.
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        settings: Training,
        loss: Loss,
        decide: Callable[[Tensor], Tensor] = lambda outputs: outputs.argmax(dim=1),
    ) -> None:
        self.settings, self.loss, self.decide = settings, loss, decide
        self.train_loss = smoothed(loss, settings.label_smoothing) if settings.label_smoothing else loss
        self.device = resolve_device(settings.device)
        self.dtype = resolve_precision(settings.precision, self.device)
        with seeded(settings.seed):
            # channels_last lets the CPU's convolutions vectorise over channels; it does not change the function.
            self.learner = build().to(self.device).to(memory_format=torch.channels_last)
            self.random_state = torch.get_rng_state()
        self.model, self.average = self.learner, None
        if settings.ema is not None:
            how = get_ema_multi_avg_fn(settings.ema)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(self.learner, multi_avg_fn=how, use_buffers=True)
            self.model = self.average.module
        self.optimizer = make_optimizer(self.learner, settings.optimizer)
        self.shuffler = torch.Generator().manual_seed(settings.seed)
        self.epoch = 0
        self.examples_seen = 0
        self.seconds = 0.0

    def fit(self, train: Examples, epochs: int, on_batches: OnBatches | None = None) -> Iterator[EpochResult]:
        """Train up to epoch `epochs`, yielding the result of each epoch.

        Args:
            train: The training examples; moved to the trainer's device and precision once.
            epochs: The last epoch, counted from the very start of the training. The learning rate schedule always ends
                with `settings.epochs`, even if the training is split over several calls.
            on_batches: Called within each epoch, whenever losses are checked.

        Raises:
            ValueError: The schedule ends before epoch `epochs`.
            Diverged: The loss became NaN or infinite; the trainer cannot be used any further.
        """
        if self.settings.schedule in ("one_cycle", "cosine") and epochs > self.settings.epochs:
            raise ValueError(f"epoch {epochs}: the learning rate's schedule ends with epoch {self.settings.epochs}")
        ready = train.to(self.device, self.dtype)
        while self.epoch < epochs:
            with torch.random.fork_rng():
                torch.set_rng_state(self.random_state)
                if self.device.type != "cpu":  # an accelerator draws dropout from a generator of its own
                    torch.get_device_module(self.device).manual_seed(int(torch.randint(2**62, ())))
                with deterministic(self.device):
                    result = self._epoch(ready, on_batches)
                self.random_state = torch.get_rng_state()
            yield result

    def _epoch(self, train: Examples, on_batches: OnBatches | None) -> EpochResult:
        began, began_cpu = time.perf_counter(), time.process_time()
        self.learner.train()
        for layer in self.learner.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and not layer.weight.requires_grad:
                layer.eval()  # a frozen one keeps its statistics too
        size, alpha = self.settings.batch_size, self.settings.augmentation.mixup
        order = self._order(len(train)).to(self.device)
        losses: list[Tensor] = []
        right: list[Tensor] = []
        batches = torch.split(order, size)
        background = train.least()
        for number, batch in enumerate(batches):
            self._set_rate((self.epoch + number / len(batches)) / self.settings.epochs)
            chosen = train.select(batch)
            inputs, targets = augment(chosen.ready(), self.settings.augmentation, background), chosen.targets
            if alpha:
                inputs, others, share = mix(inputs, targets, alpha)
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                outputs = self.learner(inputs)
            loss = self.train_loss(outputs.float(), targets)
            if alpha:
                loss = share * loss + (1 - share) * self.train_loss(outputs.float(), others)
            self.optimizer.zero_grad()
            torch.autograd.backward(loss)
            self.optimizer.step()
            if self.average is not None:
                self.average.update_parameters(self.learner)
            losses.append(loss.detach())
            right.append((self.decide(outputs.detach()) == targets).sum())
            if len(losses) % CHECK_EVERY == 0 or len(losses) == len(batches):
                self._check(losses)
                if on_batches:
                    recent = torch.stack(losses[-CHECK_EVERY:]).mean().item()
                    on_batches(min(len(losses) * size, len(train)), len(train), recent)
        values = torch.stack(losses).tolist()
        hits = torch.stack(right).to("cpu", torch.int32).numpy()
        seen, self.examples_seen = self.examples_seen, self.examples_seen + len(train)
        self.epoch += 1
        seconds = time.perf_counter() - began
        self.seconds += seconds
        return EpochResult(
            epoch=self.epoch,
            train_loss=sum(v * len(b) for v, b in zip(values, batches, strict=True)) / len(train),
            train_accuracy=int(hits.sum()) / len(train),
            batch_losses=[(seen + i * size, values[i]) for i in range(0, len(values), LOG_EVERY)],
            seconds=seconds,
            cpu_seconds=time.process_time() - began_cpu,
            examples=len(train),
            losses=np.array(values, np.float32),
            right=hits,
            sizes=np.array([len(batch) for batch in batches], np.int32),
        )

    def _set_rate(self, progress: float) -> None:
        """Set the learning rate of the next step; `progress` is the fraction of all steps already taken, 0 to 1."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.optimizer.lr * rate(self.settings.schedule, progress, self.settings.epochs)

    def _check(self, losses: list[Tensor]) -> None:
        """Raise Diverged if the loss of one of the epoch's batches is NaN or infinite."""
        finite = torch.stack(losses).isfinite()
        if not finite.all():
            batch = int(finite.int().argmin())
            raise Diverged(
                f"epoch {self.epoch + 1}, batch {batch + 1}: the loss is {losses[batch].item()}; the training has "
                f"diverged. A smaller training.optimizer.lr than {self.settings.optimizer.lr:g} may keep it stable"
            )

    def _order(self, count: int) -> Tensor:
        return torch.randperm(count, generator=self.shuffler) if self.settings.shuffle else torch.arange(count)

    @torch.inference_mode()
    def evaluate(self, examples: Examples, batch_size: int = EVALUATION_BATCH) -> Evaluation:
        """Evaluate the network on `examples`, in evaluation mode and float32."""
        ready = examples.to(self.device, torch.float32)
        with deterministic(self.device):
            outputs = outputs_of(self.model, ready, batch_size)
        return Evaluation(
            loss=self.loss(outputs, ready.targets).item(),
            correct=int((self.decide(outputs) == ready.targets).sum()),
            total=len(examples),
            outputs=outputs.cpu(),
        )

    def save(self, path: Path) -> None:
        """Write a checkpoint: weights, optimiser state, random states and progress."""
        tensors = self._weights()
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items() if value is not None}
        tensors |= {"random.torch": self.random_state, "random.shuffler": self.shuffler.get_state()}
        progress = {"epoch": self.epoch, "examples_seen": self.examples_seen, "seconds": self.seconds}
        checkpoints.write(path, tensors, {key: repr(value) for key, value in progress.items()})

    def load(self, path: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            TrackdlError: The file is not a complete checkpoint of this network.
        """
        tensors, meta = checkpoints.read(path, like=self._weights())
        for name, network in self._networks().items():
            own = {key.removeprefix(name): value for key, value in tensors.items() if key.startswith(name)}
            network.load_state_dict(own)
        self.optimizer.load_state_dict(self._optimizer_state(tensors))
        self.random_state = tensors["random.torch"]
        self.shuffler.set_state(tensors["random.shuffler"])
        self.epoch, self.examples_seen = int(meta["epoch"]), int(meta["examples_seen"])
        self.seconds = float(meta["seconds"])
        if self.average is not None:
            self.average.n_averaged.fill_(self.epoch)  # of which it matters only whether it is 0

    def _networks(self) -> dict[str, nn.Module]:
        return {"model.": self.model} | ({"learner.": self.learner} if self.average is not None else {})

    def _weights(self) -> dict[str, Tensor]:
        return {place + name: one for place, net in self._networks().items() for name, one in net.state_dict().items()}

    def _optimizer_state(self, tensors: dict[str, Tensor]) -> dict[str, object]:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".", 2)
                like = parameters[int(index)]
                # Fused optimisers read raw memory, so a buffer must have the memory layout of its weights.
                laid = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
                state.setdefault(int(index), {})[name] = laid
        return {"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]}
