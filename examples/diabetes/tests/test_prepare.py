from pathlib import Path

import pandas as pd
import pytest
from diabetes import prepare, table

CSV = Path(__file__).parents[1] / "data" / "diabetes.csv"


@pytest.fixture(scope="module")
def patients() -> pd.DataFrame:
    return table.read(CSV)


def test_data_in_the_repository_passes_the_check(patients: pd.DataFrame) -> None:
    table.check(patients)
    assert len(patients) == 442


def test_every_patient_is_in_exactly_one_split(patients: pd.DataFrame) -> None:
    splits = prepare.split(patients, seed=1)
    rows = [row for part in splits.values() for row in part.index]
    assert sorted(rows) == list(patients.index)
    assert [len(splits[name]) for name in table.SPLITS] == [265, 88, 89]


def test_equal_seeds_give_equal_splits(patients: pd.DataFrame) -> None:
    first, again, other = (prepare.split(patients, seed)["test"] for seed in (1, 1, 2))
    assert list(first.index) == list(again.index)
    assert list(first.index) != list(other.index)


def test_missing_column_is_refused_by_name(patients: pd.DataFrame) -> None:
    with pytest.raises(table.TableError, match=r"lacks the columns.*'bmi'"):
        table.check(patients.drop(columns="bmi"))


def test_empty_value_is_refused_with_its_column_and_row(patients: pd.DataFrame) -> None:
    broken = patients.copy()
    broken.loc[7, "bp"] = None
    with pytest.raises(table.TableError, match="'bp' is empty in 1 rows, the first is 7"):
        table.check(broken)


def test_implausible_value_is_refused_with_its_column_and_row(patients: pd.DataFrame) -> None:
    broken = patients.copy()
    broken.loc[5, "bmi"] = 2.3  # a slip of the decimal point
    with pytest.raises(table.TableError, match=r"'bmi' is 2\.3 in row 5, outside 10 to 80"):
        table.check(broken)


def test_too_few_patients_are_refused(patients: pd.DataFrame) -> None:
    with pytest.raises(table.TableError, match="20 rows"):
        prepare.split(patients.head(20), seed=1)


def test_step_writes_one_file_per_split(tmp_path: Path) -> None:
    prepare.main(["--patients", str(CSV), "--seed", "1", "--splits", str(tmp_path / "splits")])
    assert len(table.read_split(tmp_path / "splits", "test")) == 89
