"""The scoring app predicts what `mlflow.pyfunc` predicts, for every type of column and tensor."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mlops_core.serving.answers import to_plain
from mlops_core.serving.errors import BadInputError
from mlops_core.serving.scorers import MlflowScorer, load_mlflow

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mlflow warns about its own type hints when imported
    import mlflow
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.pyfunc.scoring_server import infer_and_parse_data
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

# The warnings are mlflow's and pandas' own; what matters here is the predictions.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class Echo(mlflow.pyfunc.PythonModel):
    """Tells what it was given, types included."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - mlflow reads hints
        if isinstance(model_input, pd.DataFrame):
            seen = [[f"{name}:{model_input[name].dtype}" for name in model_input.columns]] * len(model_input)
            return [[*kinds, *map(repr, row)] for kinds, row in zip(seen, model_input.to_numpy().tolist(), strict=True)]
        items = model_input.items() if isinstance(model_input, dict) else [("", model_input)]
        return [[name, str(array.dtype), array.tolist()] for name, array in items]


def echo_model(folder: Path, schema: Schema) -> Path:
    mlflow.pyfunc.save_model(str(folder), python_model=Echo(), signature=ModelSignature(schema), pip_requirements=[])
    return folder


def scorer_of(folder: Path, **options: Any) -> MlflowScorer:
    return load_mlflow(folder, **{"batching": "auto", "refuse_extra": False, **options})


def ask(scorer: MlflowScorer, content: Any) -> Any:
    return scorer.answer(scorer.read(json.dumps(content).encode()))


def reference(folder: Path, content: dict[str, Any]) -> Any:
    """What MLflow's own server would have handed to the model, and what that answered."""
    model = mlflow.pyfunc.load_model(str(folder))
    return to_plain(model.predict(infer_and_parse_data(content, model.metadata.get_input_schema())))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("double", [1.5, 2, -3e300]),
        ("double", [1.5, None, 0.1]),
        ("float", [1.1, 2, None]),
        ("long", [1, -(2**62), 3]),
        ("integer", [1, -5, 2**31 - 1]),
        ("boolean", [True, False, True]),
        ("string", ["a", "", "ä"]),
        ("string", ["a", None, "b"]),
        ("datetime", ["2024-05-31T12:00:00", "2024-05-31T12:00:01", "1999-01-01T00:00:00"]),
        ("binary", ["AAEC", "", "/w=="]),
    ],
)
def test_a_model_sees_each_column_type_as_mlflow_would_give_it(tmp_path: Path, kind: str, values: list[Any]) -> None:
    folder = echo_model(tmp_path / "m", Schema([ColSpec(DataType[kind], "c"), ColSpec(DataType.long, "n")]))
    split = {"columns": ["n", "c"], "data": [[number, value] for number, value in enumerate(values)]}
    assert ask(scorer_of(folder), {"input_data": split}) == reference(folder, {"dataframe_split": split})


@pytest.mark.parametrize(
    ("specs", "inputs"),
    [
        ([TensorSpec(np.dtype("float32"), (-1, 2))], [[1.1, 2], [3, 4]]),
        ([TensorSpec(np.dtype("int64"), (-1, 2, 1))], [[[1], [2]]]),
        ([TensorSpec(np.dtype("uint8"), (-1, 2), "a"), TensorSpec(np.dtype("bool"), (-1,), "b")],
         {"a": [[1, 2], [3, 4]], "b": [True, False]}),
    ],
    ids=["float32", "int64", "named"],
)  # fmt: skip
def test_a_model_sees_tensors_as_mlflow_would_give_them(tmp_path: Path, specs: list[TensorSpec], inputs: Any) -> None:
    folder = echo_model(tmp_path / "m", Schema(specs))
    assert ask(scorer_of(folder), {"input_data": inputs}) == reference(folder, {"inputs": inputs})


@pytest.mark.parametrize("wrong", [[[1.5, 2], [3]], [[1.5, 2, 3]], [["a", "b"]], [[None, 1]], 5, [1, 2]])
def test_a_tensor_of_another_shape_or_type_is_refused(tmp_path: Path, wrong: Any) -> None:
    scorer = scorer_of(echo_model(tmp_path / "m", Schema([TensorSpec(np.dtype("float32"), (-1, 2))])))
    with pytest.raises((BadInputError, ValueError)):
        ask(scorer, {"inputs": [wrong] if wrong == 5 else wrong})


def test_a_model_without_a_signature_sees_what_the_body_says(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    mlflow.pyfunc.save_model(str(folder), python_model=Echo(), pip_requirements=[])
    split = {"columns": ["a", "b"], "data": [[1, "x"], [2, "y"]]}
    scorer = scorer_of(folder)
    assert scorer.signature is None
    assert ask(scorer, {"input_data": split}) == reference(folder, {"dataframe_split": split})


def test_an_unsigned_model_of_known_width_refuses_another(tmp_path: Path) -> None:
    folder, table = tmp_path / "m", numbers(["float64"] * 3)
    model = Ridge().fit(table, table["c0"])
    mlflow.sklearn.save_model(model, str(folder), serialization_format="cloudpickle", pip_requirements=[])
    scorer = scorer_of(folder)
    rows = table.head(2).to_numpy().tolist()
    assert ask(scorer, {"input_data": rows}) == model.predict(np.array(rows)).tolist()
    with pytest.raises(BadInputError, match="4 columns, and the model, which has no signature, was fitted on 3"):
        ask(scorer, {"input_data": [[1, 2, 3, 4]]})


def numbers(kinds: list[str]) -> pd.DataFrame:
    generator = np.random.default_rng(5)
    columns = {f"c{n}": generator.normal(0, 10, 200).astype(kind) for n, kind in enumerate(kinds)}
    return pd.DataFrame(columns)


def regression(make: Callable[[], Any], kinds: list[str]) -> tuple[Any, pd.DataFrame]:
    table = numbers(kinds)
    return make().fit(table, table.sum(axis=1)), table


ONE_HOT = OneHotEncoder(handle_unknown="ignore")
SCALED_RIDGE = lambda: make_pipeline(StandardScaler(), Ridge())
CASES = {
    "doubles": (SCALED_RIDGE, ["float64"] * 5, True),
    "mixed numbers": (SCALED_RIDGE, ["float64", "int64", "int32"], True),
    "floats": (Ridge, ["float32"] * 3, True),
    "longs": (SCALED_RIDGE, ["int64"] * 3, True),
    "float and double": (SCALED_RIDGE, ["float32", "float64"], False),
    "trees": (lambda: GradientBoostingRegressor(n_estimators=5), ["float64"] * 4, True),
    "columns by name": (
        lambda: make_pipeline(make_column_transformer((StandardScaler(), ["c1"]), (ONE_HOT, ["c0"])), Ridge()),
        ["int64", "float64"],
        False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_scikit_learn_answers_are_the_same_to_the_last_bit(tmp_path: Path, case: str) -> None:
    make, kinds, direct = CASES[case]
    model, table = regression(make, kinds)
    folder = tmp_path / "m"
    signature = infer_signature(table, model.predict(table))
    mlflow.sklearn.save_model(
        model, str(folder), signature=signature, serialization_format="cloudpickle", pip_requirements=[]
    )
    scorer = scorer_of(folder)
    assert (scorer._direct is not None) is direct
    for rows in (table.iloc[:1], table.iloc[3:10], table):
        split = {"columns": list(table.columns), "data": rows.to_numpy(dtype=object).tolist()}
        assert ask(scorer, {"dataframe_split": split}) == reference(folder, {"dataframe_split": split})


def test_a_null_is_refused_where_the_model_was_tried_and_raises_on_it(tmp_path: Path) -> None:
    """A pipeline may fill in one column and not another."""
    table = pd.DataFrame({"filled": [0.0, 1.0, np.nan], "plain": [1.0, 0.0, 2.0], "count": [1, 2, 3]})
    filled = make_column_transformer((SimpleImputer(), ["filled"]), remainder="passthrough")
    model = make_pipeline(filled, Ridge()).fit(table, [1.0, 2.0, 3.0])
    folder, signature = tmp_path / "m", infer_signature(table, model.predict(table))
    mlflow.sklearn.save_model(
        model, str(folder), signature=signature, serialization_format="cloudpickle", pip_requirements=[]
    )
    scorer = scorer_of(folder)

    missing = pd.DataFrame({"filled": [np.nan], "plain": [1.0], "count": [1]})
    assert ask(scorer, [{"filled": None, "plain": 1, "count": 1}]) == model.predict(missing).tolist()
    with pytest.raises(BadInputError, match="Row 1, column 'plain': null is not allowed"):
        ask(scorer, [{"filled": 1, "plain": 1, "count": 1}, {"filled": 1, "plain": None, "count": 1}])
    assert scorer.signature is not None
    assert [column.takes_null for column in scorer.signature.columns] == [True, False, True]


def test_requests_put_together_answer_as_each_alone(tmp_path: Path) -> None:
    """Labels of a classifier, so that equality is exact; sums may differ in the last bit with the number of rows."""
    table = numbers(["float64"] * 3)
    model = LogisticRegression().fit(table, np.where(table["c0"] > 0, "up", "down"))
    folder = tmp_path / "m"
    signature = infer_signature(table, model.predict(table))
    mlflow.sklearn.save_model(
        model, str(folder), signature=signature, serialization_format="cloudpickle", pip_requirements=[]
    )
    scorer = scorer_of(folder)
    parts = [table.iloc[start : start + 1 + start % 4] for start in range(0, 60, 5)]
    questions = [scorer.read(json.dumps(part.to_dict("records")).encode()) for part in parts]
    assert scorer.batches
    assert scorer.answer_together(questions) == [scorer.answer(question) for question in questions]
