"""
The patients' table: its columns, what they may hold, and how the steps hand it on.
"""

from pathlib import Path

import pandas as pd

TARGET = "target"
"""Progression of the disease one year after the measurements; a score without a unit."""

SEGMENT = "sex"
"""The column whose groups are evaluated one by one."""

SPLITS = ("train", "validation", "test")

# Wide enough for any living patient; a value outside is a slip of the unit or of the column.
PLAUSIBLE: dict[str, tuple[float, float]] = {
    "age": (0, 120),
    "sex": (1, 2),
    "bmi": (10, 80),
    "bp": (40, 200),
    "s1": (50, 500),
    "s2": (10, 400),
    "s3": (5, 150),
    "s4": (1, 20),
    "s5": (2, 8),
    "s6": (30, 500),
    TARGET: (0, 1000),
}


class TableError(ValueError):
    """The table cannot be trained on; the text says which column and why."""


def read(path: Path) -> pd.DataFrame:
    """Read a table with every column as a decimal number, so that train and live data have one type."""
    return pd.read_csv(path, dtype=float)


def read_split(folder: Path, split: str) -> pd.DataFrame:
    """Read one of `SPLITS` from the folder that the preparation wrote."""
    return read(folder / f"{split}.csv")


def check(patients: pd.DataFrame) -> None:
    """
    Refuse a table that would train a wrong model without a sound.

    Raises:
        TableError: A column or a value is missing, or a value is implausible. Rows are counted from 0.
    """
    missing = [name for name in PLAUSIBLE if name not in patients.columns]
    if missing:
        raise TableError(f"The table lacks the columns {missing}. It has {list(patients.columns)}.")
    for name, (low, high) in PLAUSIBLE.items():
        empty = patients.index[patients[name].isna()]
        if len(empty):
            raise TableError(
                f"Column '{name}' is empty in {len(empty)} rows, the first is {empty[0]}. Fill or drop them."
            )
        wrong = patients.index[~patients[name].between(low, high)]
        if len(wrong):
            value = patients.loc[wrong[0], name]
            raise TableError(
                f"Column '{name}' is {value:g} in row {wrong[0]}, outside {low:g} to {high:g}. Check its unit."
            )
