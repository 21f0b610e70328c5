"""The heart disease table's schema, spelt out: its columns, their valid values, and its classes."""

from trackdl.spec.table import Column, TableData

# The ranges cover a living person, and 0 where the table writes 0 for "not measured".
_FEATURES = {
    "Age": Column(low=0, high=120, whole=True),
    "Sex": Column(categories=["F", "M"]),
    "ChestPainType": Column(categories=["ASY", "ATA", "NAP", "TA"]),
    "RestingBP": Column(low=0, high=300, whole=True, zero_is_missing=True),
    "Cholesterol": Column(low=0, high=1000, whole=True, zero_is_missing=True),
    "FastingBS": Column(low=0, high=1, whole=True),
    "RestingECG": Column(categories=["LVH", "Normal", "ST"]),
    "MaxHR": Column(low=30, high=250, whole=True),
    "ExerciseAngina": Column(categories=["N", "Y"]),
    "Oldpeak": Column(low=-10, high=10),
    "ST_Slope": Column(categories=["Down", "Flat", "Up"]),
}
HEART = TableData(
    csv="heart.csv", target="HeartDisease", classes={"0": "normal", "1": "heart disease"}, columns=_FEATURES
)
FEATURES = list(HEART.columns.values())
HOME = "https://www.kaggle.com/datasets/fedesoriano/heart-failure-prediction"
