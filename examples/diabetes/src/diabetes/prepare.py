"""
First step: check the patients' table and split it into train, validation and test rows.

The split depends on the seed and the number of rows alone, so versions of a model are compared on the same patients.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from diabetes import table

TRAIN_SHARE = 0.6
VALIDATION_SHARE = 0.2
LEAST_ROWS = 100

logger = logging.getLogger(__name__)


def split(patients: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """
    Deal the rows to train (60%), validation (20%) and test (20%).

    Raises:
        TableError: There are too few rows for a test that means something.
    """
    if len(patients) < LEAST_ROWS:
        raise table.TableError(f"The table has {len(patients)} rows; {LEAST_ROWS} are the least to train and test on.")
    shuffled = patients.sample(frac=1, random_state=seed)
    first = int(len(patients) * TRAIN_SHARE)
    second = int(len(patients) * (TRAIN_SHARE + VALIDATION_SHARE))
    parts = (shuffled.iloc[:first], shuffled.iloc[first:second], shuffled.iloc[second:])
    return dict(zip(table.SPLITS, parts, strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the table, check it and write one CSV file per split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--splits", type=Path, required=True)
    options = parser.parse_args(arguments)

    patients = table.read(options.patients)
    table.check(patients)
    options.splits.mkdir(parents=True, exist_ok=True)
    for name, rows in split(patients, options.seed).items():
        rows.to_csv(options.splits / f"{name}.csv", index=False)
        logger.info("%s: %d patients", name, len(rows))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
