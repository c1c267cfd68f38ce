import numpy as np
import pandas as pd
import pytest
from diabetes import evaluate, table, train


@pytest.fixture(scope="module")
def patients() -> pd.DataFrame:
    """Return 200 made-up patients whose disease follows bmi and the square of age."""
    random = np.random.default_rng(0)
    columns = {name: random.uniform(low, high, 200) for name, (low, high) in table.PLAUSIBLE.items()}
    frame = pd.DataFrame(columns)
    frame["target"] = 3 * frame["bmi"] + 0.01 * frame["age"] ** 2
    return frame


def test_model_learns_a_line_and_a_curve(patients: pd.DataFrame) -> None:
    model = train.fit(patients.head(150), ["age", "bmi"], alpha=0.01)
    unseen = patients.tail(50)
    assert evaluate.rmse(unseen["target"], model.predict(unseen[["age", "bmi"]])) < 1


def test_equal_inputs_give_an_equal_model(patients: pd.DataFrame) -> None:
    first, again = (train.fit(patients, ["age", "bmi"], alpha=1.0) for _ in range(2))
    assert np.array_equal(first[-1].coef_, again[-1].coef_)


def test_strong_penalty_keeps_fewer_terms(patients: pd.DataFrame) -> None:
    weak, strong = (train.fit(patients, ["age", "bmi", "s1"], alpha) for alpha in (0.1, 20.0))
    assert np.count_nonzero(strong[-1].coef_) < np.count_nonzero(weak[-1].coef_)


def test_features_are_read_from_a_list_with_commas() -> None:
    assert train.parse_features("age, bmi") == ["age", "bmi"]


@pytest.mark.parametrize("text", ["age,weight", "age,target", ""])
def test_features_that_are_no_measurements_are_refused(text: str) -> None:
    with pytest.raises(table.TableError, match="are not a choice of"):
        train.parse_features(text)
