"""The schema of an experiment that trains a network to classify images."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trackdl.spec.base import Strict, TrainedSpec, added
from trackdl.spec.images import ImageData
from trackdl.spec.network import Network

SIDE, CLASSES = 28, 10  # what shapes are tried with where only the images will tell


class AfterEpochs(Strict):
    """Test after these epochs; 0 is before the training."""

    after: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)


class ClassifySpec(TrainedSpec):
    """An experiment that trains a network to classify images.

    Attributes:
        data: Which images, and how they are split.
        network: A family or a list of layers.
        seeds: The number of trainings. Each adds one to `training.seed` and to `data.split_seed`, so the validation
            splits vary too, as they would without fixed seeds.
        test: When the test images are used; they never affect the training. `every_epoch`: before the first epoch and
            after each; `{after: [1, 5]}`: after these epochs; `best_validation`: once, at the end. By default
            `every_epoch` without a validation split; with one, after the epochs for which the report prints a test
            number. With a validation split the weights of its best epoch are kept and tested in any case, without
            one those of the last epoch.
        reload_after: After this epoch the training is discarded and resumed from its checkpoint.
        found_by: The search whose best trial this experiment is, if any.
    """

    task: Literal["classify"]
    data: ImageData
    network: Network
    seeds: int = Field(1, ge=1, le=1000)
    test: Literal["every_epoch", "best_validation"] | AfterEpochs | None = added(None)
    reload_after: int | None = added(None, ge=1)
    found_by: str = added("")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.test == "best_validation" and self.data.validation is None:
            raise ValueError("test: best_validation needs data.validation, the share of the validation split")
        try:
            self.network.shapes(self.data.channels, self.data.side or SIDE, self.data.class_count or CLASSES)
        except ValueError as error:
            raise ValueError(f"key 'network': {error}") from error
        return self

    def nth(self, number: int) -> Self:
        """Return the experiment for another training: `number` is added to its seed and to its split's."""
        training = self.training.model_copy(update={"seed": self.training.seed + number})
        data = self.data
        if data.validation is not None:
            data = data.model_copy(update={"split_seed": data.split_seed + number})
        return self.model_copy(update={"training": training, "data": data})

    def tested_after(self, epoch: int) -> bool:
        """Return whether the test images are used after an epoch, for the report's numbers."""
        if isinstance(self.test, AfterEpochs):
            return epoch in self.test.after
        if self.test is None and self.data.validation is not None:
            printed = (one for one in self.numbers if one.metric.startswith("test_"))
            return epoch in {self.training.epochs if one.epoch is None else one.epoch for one in printed}
        return self.test in (None, "every_epoch")
