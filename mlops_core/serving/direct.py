"""
A shorter way to a scikit-learn model's predictions than `mlflow.pyfunc`: no table, no second check of the schema.

Building a one-row pandas table and checking it again costs more than most models. Where every column is a number and
the first estimator only turns its input into an array, the array can be handed over at once. Whether that changes a
result is not argued but tried: at load, both ways predict the same probe rows, and a single differing bit ends the
shorter way.
"""

from __future__ import annotations

import logging
import random
import warnings
from typing import Any

from mlops_core.serving import arrays
from mlops_core.serving.signature import Signature
from mlops_core.serving.validation import Rows

_log = logging.getLogger(__name__)
_PROBE_ROWS = (1, 2, 7, 33)
# Estimators that look at the columns by name or hand them to code we cannot see.
_LOOKS_AT_NAMES = ("sklearn.compose.", "sklearn.preprocessing._function_transformer")


class DirectModel:
    """A scikit-learn estimator that takes an array for the table of its signature."""

    def __init__(self, predict: Any, columns: tuple[str, ...], numpy_type: str) -> None:
        self._predict = predict
        self._columns = columns
        self._numpy_type = numpy_type

    def takes(self, rows: Rows) -> bool:
        """Whether the rows have all the columns (optional ones may be absent)."""
        return rows.columns == self._columns

    def predict(self, parts: list[Rows]) -> Any:
        """Predict for the rows of all parts."""
        return self._predict(arrays.to_matrix(parts, self._numpy_type))


def find_direct_model(model: Any, flavour: dict[str, Any], signature: Signature | None) -> DirectModel | None:
    """Give the shorter way where there is one that was shown to answer bit for bit the same; else None."""
    if signature is None or not signature.columns or flavour.get("loader_module") != "mlflow.sklearn":
        return None
    if signature.params or not signature.is_named:
        return None
    numpy_type = _common_type({column.type for column in signature.columns})
    estimator = estimator_of(model)
    columns = tuple(column.name for column in signature.columns)
    if numpy_type is None or estimator is None or not _only_takes_arrays(estimator, columns):
        return None
    method = getattr(estimator, flavour.get("predict_fn") or "predict", None)
    if method is None:
        return None
    # It says at each call that an array has no column names; the order of the columns was checked above.
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    candidate = DirectModel(method, columns, numpy_type)
    types = tuple(column.type for column in signature.columns)
    if not _agrees(model, candidate, Rows(columns, types, [])):
        _log.info("the model is asked through mlflow.pyfunc: the direct way gave another result")
        return None
    return candidate


def _common_type(types: set[str]) -> str | None:
    """Give the type to which scikit-learn would bring a table of these columns; None where that is not simple."""
    if types <= {"double", "long", "integer"} and "double" in types:
        return "float64"
    return {"double": "float64", "float": "float32", "long": "int64", "integer": "int32"}.get(
        next(iter(types)) if len(types) == 1 else ""
    )


def estimator_of(model: Any) -> Any:
    """Take the scikit-learn estimator out of a loaded pyfunc model, in any version of mlflow."""
    wrapper = model.get_raw_model() if hasattr(model, "get_raw_model") else getattr(model, "_model_impl", None)
    return getattr(wrapper, "sklearn_model", wrapper)


def _only_takes_arrays(estimator: Any, columns: tuple[str, ...]) -> bool:
    first = estimator
    while hasattr(first, "steps"):
        if not first.steps:
            return False
        first = first.steps[0][1]
    module = type(first).__module__
    names = getattr(estimator, "feature_names_in_", getattr(first, "feature_names_in_", None))
    if names is not None and tuple(names) != columns:
        return False
    return module.startswith("sklearn.") and not module.startswith(_LOOKS_AT_NAMES)


def _agrees(model: Any, candidate: DirectModel, shape: Rows) -> bool:
    import numpy as np

    generator = random.Random(0)  # noqa: S311 - probe rows, not secrets
    for count in _PROBE_ROWS:
        values = [[_probe(kind, generator) for kind in shape.types] for _ in range(count)]
        rows = Rows(shape.columns, shape.types, values)
        try:
            expected = np.asarray(model.predict(arrays.to_frame([rows])))
            got = np.asarray(candidate.predict([rows]))
        except Exception:  # noqa: BLE001 - whatever the model raises on made-up rows, the usual way is taken then
            _log.debug("the model does not take the probe rows", exc_info=True)
            return False
        same = expected.dtype == got.dtype and expected.shape == got.shape
        if not same or not bool((expected == got).all()):
            return False
    return True


def _probe(column_type: str, generator: random.Random) -> Any:
    scale = generator.choice((0.01, 1.0, 100.0))
    number = generator.gauss(0.0, scale)
    return round(number) if column_type in {"long", "integer"} else number
