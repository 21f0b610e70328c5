"""The schema of Task 4's experiment file: the data, the networks, the protocols and their ablation."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from trackdl.spec.base import Augmentation, Optimizer, Strict, TrainedSpec, Training, like

Share = Annotated[float, Field(gt=0, lt=1)]


class HeartData(Strict):
    """Task 4's data: the report's rows and split, or tables of the same schema.

    `csv` is a table to use instead of the report's, `test_csv` a table to test on. Without `test_csv` the stratified
    share `test_share` of `csv`, drawn by the training's seed, is the test split.
    """

    dataset: Literal["heart"]
    csv: str | None = None
    test_csv: str | None = None
    test_share: Share = 0.2

    @model_validator(mode="after")
    def _test_rows_need_training_rows(self) -> "HeartData":
        if self.test_csv and not self.csv:
            raise ValueError("test_csv needs csv, the table to train on")
        return self


class HeartInputs(Strict):
    """How a row becomes a network's input.

    `encoding: labels` is the report's: categories are numbered alphabetically, in each table by itself, and nothing is
    scaled. `one-hot` makes a column of each category and scales every column to mean 0 and standard deviation 1.
    `missing_zeros` treats a cholesterol or blood pressure of 0 as missing: it is filled with the median, and a column
    of its own marks missing cholesterol. `variance` keeps as many principal components as are needed to explain this
    share of the training rows' variance.
    """

    encoding: Literal["labels", "one-hot"]
    missing_zeros: bool = False
    variance: Share | None = None

    @model_validator(mode="after")
    def _labels_stay_as_they_are(self) -> "HeartInputs":
        if self.encoding == "labels" and (self.missing_zeros or self.variance):
            raise ValueError("missing_zeros and variance need the encoding one-hot")
        return self


class EarlyStopping(Strict):
    """Keep the weights of the epoch with the lowest loss on this `share` of the training rows, which is held out.

    Training stops after `patience` epochs without improvement.
    """

    share: Share
    patience: int = Field(ge=1)


class HeartProtocol(Strict):
    """One way to train Task 4's networks; keys that are not given are as in the file's `training`.

    `faults` repeats the report's faults: the loss is broadcast over the batch, and the class is an argmax over one
    column. `members` is the number of networks in the ensemble, each with its own seed and early-stopping split.
    """

    inputs: HeartInputs
    loss: Literal["mse", "bce"] = "mse"
    faults: bool = False
    optimizer: Optimizer | None = None
    batch_size: int | None = Field(None, ge=1)
    shuffle: bool | None = None
    dropout: float = Field(0.0, ge=0, lt=1)
    class_weights: bool = False
    early_stopping: EarlyStopping | None = None
    members: int = Field(1, ge=1, le=100)

    @model_validator(mode="after")
    def _faults_are_of_mse(self) -> "HeartProtocol":
        if self.faults and (self.loss != "mse" or self.members > 1):
            raise ValueError("faults needs the loss mse and a single member")
        if self.class_weights and self.loss != "bce":
            raise ValueError("class_weights needs the loss bce")
        return self

    def resolve(self, training: Training, epochs: int | None, seed: int) -> Training:
        """Return the file's training section, with the keys that this protocol overrides."""
        own = {"optimizer": self.optimizer, "batch_size": self.batch_size, "shuffle": self.shuffle, "epochs": epochs}
        return training.model_copy(update={"seed": seed, **{k: v for k, v in own.items() if v is not None}})


class HeartNetwork(Strict):
    """One of the report's networks by its hidden widths; `epochs` overrides the training's.

    A network that takes long may be left out of the cross-validation.
    """

    name: Annotated[str, like(r"[\w-]+", "letters, digits, _ and -")]
    hidden: list[Annotated[int, Field(ge=1)]]
    epochs: int | None = Field(None, ge=1)
    cross_validate: bool = True


class Variant(Strict):
    """One step of the ablation: the protocol `improved` with some keys overridden by `set`."""

    name: str = Field(min_length=1)
    set: dict[str, Any]


class HeartSpec(TrainedSpec):
    """Task 4: the report's two networks on heart disease, under four protocols, next to baselines.

    The ablation varies the first network under `improved`, which is also the model that is registered. `seeds` is the
    number of trainings, seeded upwards from the training's seed. `folds` and `repeats` are the cross-validation's.
    """

    task: Literal["heart"]
    data: HeartData
    networks: list[HeartNetwork] = Field(min_length=1)
    protocols: dict[Literal["as-reported", "corrected", "scaled", "improved"], HeartProtocol]
    ablation: list[Variant] = Field(default_factory=list)
    seeds: int = Field(ge=1, le=1000)
    folds: int = Field(ge=2)
    repeats: int = Field(ge=1)

    @model_validator(mode="after")
    def _whole(self) -> "HeartSpec":
        if "improved" not in self.protocols:
            raise ValueError("protocols must include improved, the one that is registered")
        if not self.networks[0].cross_validate:
            raise ValueError("the first network must be cross-validated: its score decides about the champion")
        if self.training.label_smoothing or self.training.augmentation != Augmentation():
            raise ValueError("training: label_smoothing and augmentation are for image classifiers, not for a table")
        self.variants()
        return self

    def variants(self) -> dict[str, HeartProtocol]:
        """Return each ablation step's protocol by name.

        Raises:
            ValueError: A step sets a key that protocols do not have.
        """
        base = self.protocols["improved"].model_dump()
        made = {}
        for step in self.ablation:
            try:
                made[step.name] = HeartProtocol.model_validate(_merged(base, step.set))
            except ValidationError as error:
                problem = error.errors()[0]
                key = ".".join(str(part) for part in problem["loc"])
                raise ValueError(f"ablation '{step.name}', key '{key}': {problem['msg']}") from error
        return made


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of `base` with dotted keys overridden."""
    merged = dict(base)
    for key, value in changes.items():
        section, dot, rest = key.partition(".")
        merged[section] = _merged(merged.get(section) or {}, {rest: value}) if dot else value
    return merged
