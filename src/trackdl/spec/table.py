"""The schema of a table's experiment file: the data, the networks, the protocols and their ablation."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from trackdl.spec.base import Augmentation, Optimizer, Strict, TrainedSpec, Training, added, like
from trackdl.spec.keys import with_keys
from trackdl.spec.network import Activation

Share = Annotated[float, Field(gt=0, lt=1)]
Baseline = Literal[
    "majority-class",
    "decision-tree",
    "logistic-regression",
    "random-forest",
    "gradient-boosting",
    "svm",
    "k-neighbours",
    "naive-bayes",
]
Name = Annotated[str, like(r"[\w.-]+", "letters, digits, _, - and .")]
BASELINE_GROUP, ABLATION = "baselines", "ablation"


class Column(Strict):
    """A feature of a table: one of `categories`, or a number from `low` to `high`.

    Attributes:
        name: The column's; a file need not repeat it.
        low: The least number.
        high: The greatest number.
        whole: Whole numbers only.
        categories: The values of a feature that is not a number.
        missing: The texts that stand for a missing value; if there are none, no value may be missing.
        zero_is_missing: A 0 may mean "not measured": see `missing_zeros` of the inputs.
    """

    name: str = ""
    low: float | None = None
    high: float | None = None
    whole: bool = False
    categories: list[str] = Field(default_factory=list)
    missing: list[str] = Field(default_factory=list)
    zero_is_missing: bool = False

    @property
    def expected(self) -> str:
        """The valid values, for messages."""
        if self.categories:
            return f"one of {', '.join(self.categories)}"
        ends = (("from", self.low), ("to", self.high))
        return f"a {'whole ' if self.whole else ''}number" + "".join(f" {a} {b:g}" for a, b in ends if b is not None)


class TableData(Strict):
    """A table and its split into training and test rows.

    The table is a data set that trackdl brings, one of scikit-learn's, or a CSV file of your own. Paths are relative to
    the report's folder.

    Attributes:
        dataset: The project's report's table; `csv` may then be another table of the same columns.
        sklearn: One of scikit-learn's tables.
        csv: A file.
        target: The column to predict.
        test_csv: A file with the test rows.
        test_rows: A file with the test rows' numbers, from 0, one a line.
        test_share: The stratified share of test rows, drawn by `training.seed`, without the two keys above.
        classes: New names of the target's values, e.g. `{"0": normal, "1": disease, "2": disease}`: values with the
            same new name are merged, and the classes are in this order. By default numeric or alphabetic.
        positive: The second of two classes, whose probability is given; by default the last.
        missing: The texts that stand for a missing value; without them no value may be missing.
        text: Columns whose numbers are names of categories.
        drop: Columns to leave out; one without a name is `''`.
        columns: Every feature spelt out, instead of inferred, e.g. `{Sex: {categories: [F, M]}}`.
    """

    dataset: Literal["heart"] | None = None
    sklearn: Literal["breast_cancer", "iris", "wine"] | None = added(None)
    csv: str | None = None
    target: str | None = added(None)
    test_csv: str | None = None
    test_rows: str | None = added(None)
    test_share: Share = 0.2
    classes: dict[str, str] = added({})
    positive: str | None = added(None)
    missing: list[str] = added([])
    text: list[str] = added([])
    drop: list[str] = added([])
    columns: dict[str, Column] = added({})

    @field_validator("columns", mode="after")
    @classmethod
    def _columns_know_their_names(cls, columns: dict[str, Column]) -> dict[str, Column]:
        return {name: column.model_copy(update={"name": name}) for name, column in columns.items()}

    @model_validator(mode="after")
    def _one_table(self) -> "TableData":
        given = [key for key in ("dataset", "sklearn") if getattr(self, key)]
        if len(given) > 1 or (not given and not self.csv):
            raise ValueError("the data are one of csv: FILE with target: COLUMN, sklearn: NAME, or dataset: heart")
        if self.test_csv and not self.csv:
            raise ValueError("test_csv needs csv, the table to train on")
        if self.sklearn and self.csv:
            raise ValueError("csv is a table of its own; leave out sklearn")
        if self.test_csv and self.test_csv == self.csv:
            raise ValueError("test_csv is csv; a network cannot be tested on rows that it has learnt")
        if self.target in self.text:
            raise ValueError(f"text names the target, {self.target}; its values are names of classes anyway")
        if self.test_csv and self.test_rows:
            raise ValueError("the test rows are those of test_csv or of test_rows, not of both")
        if not given and not self.target:
            raise ValueError("csv needs target, the name of the column to predict")
        fixed = [key for key in ("target", "classes", "missing", "text", "drop", "columns") if getattr(self, key)]
        if self.dataset and fixed:
            raise ValueError(f"dataset heart has its own columns and classes; leave out {', '.join(fixed)}")
        if self.sklearn and self.target:
            raise ValueError("scikit-learn's tables have their own target; leave out target")
        if self.columns and self.text:
            raise ValueError("columns says which columns are categories; leave out text")
        return self


class TableInputs(Strict):
    """How a row becomes a network's input.

    A missing number is filled with the training rows' median, and marked in a column of its own if at least 5 % of them
    lack it; a missing category is a category of its own.

    Attributes:
        encoding: `labels` numbers the categories alphabetically; `one-hot` makes a column of each category.
        missing_zeros: Treat zeros as missing in columns with `zero_is_missing`.
        variance: Keep as many principal components as explain this share of the training rows' variance.
        scale: Give every column the mean 0 and the standard deviation 1 over the training rows; by default with one-hot
            only.
        drop: Columns to leave out.
    """

    encoding: Literal["labels", "one-hot"] = "one-hot"
    missing_zeros: bool = False
    variance: Share | None = None
    scale: bool | None = added(None)
    drop: list[str] = added([])

    @property
    def scaled(self) -> bool:
        """Whether the columns are scaled."""
        return self.encoding == "one-hot" if self.scale is None else self.scale

    @model_validator(mode="after")
    def _labels_stay_as_they_are(self) -> "TableInputs":
        if self.encoding == "labels" and (self.missing_zeros or self.variance):
            raise ValueError("missing_zeros and variance need the encoding one-hot")
        if self.variance and not self.scaled:
            raise ValueError("variance needs scaled inputs; leave out scale: false")
        return self


class EarlyStopping(Strict):
    """Keep the weights of the epoch with the lowest loss on held-out training rows.

    Attributes:
        share: The share of the training rows that is held out.
        patience: Stop after this many epochs without improvement.
    """

    share: Share
    patience: int = Field(ge=1)


class TableProtocol(Strict):
    """One way to train a table's networks; keys that are not given are as in the file's `training`.

    Attributes:
        inputs: How a row becomes a network's input.
        loss: `mse` and `bce` train a single output, for two classes; `cross_entropy` one for each class.
        faults: Repeat the faults of the project's report, on its own data set only: the loss is broadcast over the
            batch, and the class is an argmax over one column.
        optimizer: Instead of the training's.
        batch_size: Instead of the training's.
        shuffle: Instead of the training's.
        dropout: The share of nodes dropped after each hidden layer.
        class_weights: Let rare classes count more.
        early_stopping: Stop when the loss on held-out training rows no longer falls.
        members: The number of networks whose mean predicts, each with its own seed and early-stopping split.
    """

    inputs: TableInputs = TableInputs()
    loss: Literal["mse", "bce", "cross_entropy"] = "mse"
    faults: bool = False
    optimizer: Optimizer | None = None
    batch_size: int | None = Field(None, ge=1)
    shuffle: bool | None = None
    dropout: float = Field(0.0, ge=0, lt=1)
    class_weights: bool = False
    early_stopping: EarlyStopping | None = None
    members: int = Field(1, ge=1, le=100)

    @model_validator(mode="after")
    def _faults_are_of_mse(self) -> "TableProtocol":
        if self.faults and (self.loss != "mse" or self.members > 1):
            raise ValueError("faults needs the loss mse and a single member")
        if self.class_weights and self.loss == "mse":
            raise ValueError("class_weights needs the loss bce or cross_entropy")
        return self

    def resolve(self, training: Training, epochs: int | None, seed: int) -> Training:
        """Return the file's training section, with the keys that this protocol overrides."""
        own = {"optimizer": self.optimizer, "batch_size": self.batch_size, "shuffle": self.shuffle, "epochs": epochs}
        return training.model_copy(update={"seed": seed, **{k: v for k, v in own.items() if v is not None}})


class TableNetwork(Strict):
    """A network by its hidden widths.

    Attributes:
        name: What it is called in metrics.
        hidden: The widths of its hidden layers.
        activation: Of each hidden layer.
        dropout: After each hidden layer, instead of the protocol's.
        epochs: Instead of the training's.
        cross_validate: A network that takes long may be left out of the cross-validation.
    """

    name: Name
    hidden: list[Annotated[int, Field(ge=1, le=10_000)]] = Field(max_length=100)
    activation: Activation = "relu"
    dropout: float | None = added(None, ge=0, lt=1)
    epochs: int | None = Field(None, ge=1)
    cross_validate: bool = True


class Variant(Strict):
    """One step of the ablation.

    Attributes:
        name: What it is called in figures and tables.
        set: Keys of the protocol `subject`, with the values that they have in this variant, e.g. `{dropout: 0.0}`.
    """

    name: str = Field(min_length=1)
    set: dict[str, Any]


_TRAINING = {
    "epochs": 100,
    "batch_size": 32,
    "optimizer": {"name": "adam", "lr": 0.01},
    "seed": 1,
    "precision": "float32",
}


class TableSpec(TrainedSpec):
    """Networks on a table, under several protocols, next to baselines.

    Attributes:
        training: How the networks are trained. It may be left out, and so may each of its keys: by default `epochs` is
            100, `batch_size` 32, `optimizer` Adam with the learning rate 0.01, `seed` 1 and `precision` float32.
        data: The table and its test rows.
        networks: The networks to compare.
        protocols: The ways to train them.
        subject: The protocol whose first network is registered, and varied by `ablation`; by default the last.
        ablation: Variants of that protocol, e.g. `[{name: without dropout, set: {dropout: 0.0}}]`.
        baselines: scikit-learn's classifiers to compare with; by default the first five.
        seeds: The number of trainings, with seeds counted up from the training's.
        folds: Folds of the cross-validation; 0: there is none.
        repeats: How often it is repeated.
    """

    task: Literal["table"]
    training: Training = Training.model_validate(_TRAINING)
    data: TableData
    networks: list[TableNetwork] = Field(min_length=1)
    protocols: dict[Name, TableProtocol] = Field(min_length=1)
    subject: str | None = None
    ablation: list[Variant] = Field(default_factory=list)
    baselines: list[Baseline] = Field(default_factory=lambda: [*get_args(Baseline)[:5]])
    seeds: int = Field(1, ge=1, le=1000)
    folds: int = Field(5, ge=0)
    repeats: int = Field(1, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _training_may_be_left_out(cls, given: Any) -> Any:
        training = given.get("training", {}) if isinstance(given, dict) else None
        return {**given, "training": {**_TRAINING, **training}} if isinstance(training, dict) else given

    @field_validator("folds")
    @classmethod
    def _one_fold_is_none(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("must be 2 or more, or 0 for no cross-validation")
        return folds

    @model_validator(mode="after")
    def _whole(self) -> "TableSpec":
        if taken := {BASELINE_GROUP, ABLATION} & set(self.protocols):
            raise ValueError(f"no protocol may be called {taken.pop()}: those are other models")
        if self.subject is not None and self.subject not in self.protocols:
            raise ValueError(f"subject is {self.subject!r}; it may be one of {', '.join(self.protocols)}")
        for kind, names in (("networks", [item.name for item in self.networks]), ("baselines", [*self.baselines])):
            if len(set(names)) < len(names):
                raise ValueError(f"{kind}: each name may occur once, but they are {', '.join(names)}")
        if self.folds and not self.networks[0].cross_validate:
            raise ValueError("the first network must be cross-validated: its score decides about the champion")
        if self.training.loss != "cross_entropy":
            raise ValueError("training.loss: is for image classifiers; a table's protocols have their own loss")
        if self.training.label_smoothing or self.training.augmentation != Augmentation():
            raise ValueError("training: label_smoothing and augmentation are for image classifiers, not for a table")
        faulty = [name for name, protocol in self.protocols.items() if protocol.faults]
        if faulty and self.data.dataset != "heart":
            raise ValueError(f"protocols.{faulty[0]}: faults are those of one report, on dataset heart alone")
        if self.registered in faulty:
            raise ValueError(f"the subject {self.registered} has faults; name another protocol as subject")
        self.variants()
        return self

    @property
    def registered(self) -> str:
        """The protocol whose first network is registered."""
        return self.subject or list(self.protocols)[-1]

    def variants(self) -> dict[str, TableProtocol]:
        """Return each ablation step's protocol by name.

        Raises:
            ValueError: A step sets a key that protocols do not have.
        """
        base = self.protocols[self.registered]
        made = {}
        for step in self.ablation:
            try:
                made[step.name] = with_keys(base, step.set)
            except ValidationError as error:
                problem = error.errors()[0]
                key = ".".join(str(part) for part in problem["loc"])
                raise ValueError(f"ablation '{step.name}', key '{key}': {problem['msg']}") from error
        return made
