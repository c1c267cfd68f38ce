"""
The two kinds of model behind one face: MLflow models and Azure ML's `score.py`.

`read` turns a body into a question (cheap, on the event loop), `answer` asks the model, `answer_together` asks it
once for several questions of the same `batch_key`. A question without a key goes alone.
"""

from __future__ import annotations

import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mlops_core.serving import arrays
from mlops_core.serving.answers import to_plain
from mlops_core.serving.direct import DirectModel, estimator_of, find_direct_model
from mlops_core.serving.errors import BadInputError, ModelLoadError
from mlops_core.serving.missing import with_tried_nulls
from mlops_core.serving.parsing import Parsed, first_non_finite, parse_body
from mlops_core.serving.signature import SCALAR_TYPES, Signature, read_mlmodel, signature_from_mlmodel
from mlops_core.serving.validation import Rows, TableReader

_log = logging.getLogger(__name__)
# Flavours whose predict is defined row by row; a custom Python model may look across rows, so it is asked alone.
_ROW_WISE_LOADERS = frozenset({"mlflow.sklearn", "mlflow.lightgbm", "mlflow.xgboost", "mlflow.catboost"})

_REFUSALS = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST"})


@dataclass(frozen=True)
class Question:
    """One request, ready for the model. `rows` is 0 where it is no table."""

    payload: Any
    rows: int = 0
    batch_key: Any = None
    params: Any = None
    wraps_answer: bool = False


@dataclass(frozen=True)
class RawAnswer:
    """An answer whose HTTP form the model chose itself."""

    body: bytes
    status: int
    content_type: str


@dataclass(frozen=True)
class Declared:
    """JSON Schemas by which a script itself says what it takes and gives; None where it does not."""

    request: dict[str, Any] | None
    answer: dict[str, Any] | None


class Scorer(Protocol):
    """A loaded model."""

    signature: Signature | None
    declared: Declared | None
    batches: bool
    needs_json: bool
    may_run_inline: bool

    def read(self, body: bytes) -> Question:
        """Parse and validate a body; raises `ScoringError`."""

    def answer(self, question: Question) -> Any:
        """Predict for one question; JSON-ready."""

    def answer_together(self, questions: list[Question]) -> list[Any]:
        """Predict for questions of one `batch_key` in one call; raises `BatchMismatchError` if rows got lost."""


class BatchMismatchError(RuntimeError):
    """The model gave another number of predictions than it got rows, so they cannot be given back to their requests."""

    def __init__(self, rows: int, predictions: int) -> None:
        super().__init__(
            f"The model gave {predictions} predictions for {rows} rows put together. Asked one by one now."
        )


class MlflowScorer:
    """An MLflow model: its signature checks requests; `mlflow.pyfunc` predicts, or what answers the same faster."""

    needs_json = True
    declared: Declared | None = None

    def __init__(
        self, model: Any, signature: Signature | None, direct: DirectModel | None, *, refuse_extra: bool
    ) -> None:
        self.signature = signature
        self.batches = False
        self.may_run_inline = False
        self._model = model
        self._direct = direct
        self._width: int | None = None
        has_columns = signature is not None and bool(signature.columns)
        columns = signature.columns if signature is not None else ()
        # Arrays, objects and maps in columns are MLflow's to judge, and so are parameters.
        self._is_judged_here = all(column.type in SCALAR_TYPES for column in columns)
        self._reader = (
            TableReader(signature, refuse_extra=refuse_extra) if signature is not None and has_columns else None
        )

    def read(self, body: bytes) -> Question:
        """Parse and validate a body against the signature."""
        parsed = parse_body(body, self.signature)
        if self._reader is None and (b"NaN" in body or b"Infinity" in body):
            _refuse_non_finite(parsed)
        if self._reader is not None:
            if parsed.table is None:
                message = "The model takes a table, and the request has tensors. Send columns and rows."
                raise BadInputError(message)
            rows = self._reader.read(parsed.table)
            key = rows.columns if parsed.params is None else None
            return Question(rows, len(rows.rows), key, parsed.params, parsed.wraps_answer)
        payload, count = self._without_columns(parsed)
        if not count:
            raise BadInputError("The request has no rows. Send at least one.")
        return Question(payload, count, None, parsed.params, parsed.wraps_answer)

    def answer(self, question: Question) -> Any:
        """Predict for one question."""
        return to_plain(self._predict([question]))

    def answer_together(self, questions: list[Question]) -> list[Any]:
        """Predict in one call and give each question its own rows back."""
        predictions = to_plain(self._predict(questions))
        total = sum(question.rows for question in questions)
        if not isinstance(predictions, list) or len(predictions) != total:
            raise BatchMismatchError(total, len(predictions) if isinstance(predictions, list) else 1)
        answers, start = [], 0
        for question in questions:
            answers.append(predictions[start : start + question.rows])
            start += question.rows
        return answers

    def _predict(self, questions: list[Question]) -> Any:
        first = questions[0]
        if not isinstance(first.payload, Rows):
            return self._call(first.payload, first.params)
        parts = [question.payload for question in questions]
        if self._direct is not None and first.params is None and self._direct.takes(parts[0]):
            return self._direct.predict(parts)
        return self._call(arrays.to_frame(parts), first.params)

    def _call(self, data: Any, params: Any) -> Any:
        if self._is_judged_here and params is None:
            return self._model.predict(data)
        from mlflow.exceptions import MlflowException

        try:
            return self._model.predict(data) if params is None else self._model.predict(data, params=params)
        except MlflowException as error:
            if error.error_code in _REFUSALS:
                raise BadInputError(str(error)) from error
            raise

    def _without_columns(self, parsed: Parsed) -> tuple[Any, int]:
        if self.signature is not None and self.signature.tensors:
            if parsed.table is not None:
                return arrays.tensors_from_table(parsed.table, self.signature.tensors), len(parsed.table.rows)
            return arrays.to_tensors(parsed.tensors, self.signature.tensors), _length(parsed.tensors)
        if parsed.table is not None:
            return self._of_known_width(arrays.unsigned_frame(parsed.table)), len(parsed.table.rows)
        return self._of_known_width(arrays.unsigned_tensors(parsed.tensors)), _length(parsed.tensors)

    def expect_width(self, width: int | None) -> None:
        """Refuse unsigned tables of another number of columns; the one thing that is known of some unsigned models."""
        self._width = width

    def _of_known_width(self, data: Any) -> Any:
        shape: tuple[int, ...] = getattr(data, "shape", ())
        if self._width is not None and len(shape) == 1:
            message = f"The data is one list, and the model takes rows of {self._width} values. Send a list of lists."
            raise BadInputError(message)
        if self._width is not None and len(shape) > 1 and shape[1] != self._width:
            message = (
                f"The request has {shape[1]} columns, and the model, which has no signature, "
                f"was fitted on {self._width}. Send those, in the order of the training."
            )
            raise BadInputError(message)
        return data


def load_mlflow(folder: Path, *, batching: str, refuse_extra: bool) -> MlflowScorer:
    """
    Load an MLflow model.

    Raises:
        ModelLoadError: The folder is no model, mlflow is missing, or loading raised.
    """
    mlmodel = read_mlmodel(folder)
    signature = signature_from_mlmodel(mlmodel)
    flavour = (mlmodel.get("flavors") or {}).get("python_function")
    if not flavour:
        message = (
            f"The model in '{folder}' has no python_function flavour. Log it with mlflow's own log_model or save_model."
        )
        raise ModelLoadError(message)
    try:
        import mlflow.pyfunc
    except ImportError as error:
        message = f"The model's environment has no mlflow ({error}). Add it to the model's requirements."
        raise ModelLoadError(message) from error
    try:
        with warnings.catch_warnings(record=True) as caught:
            model = mlflow.pyfunc.load_model(str(folder))
    except Exception as error:
        message = f"The model in '{folder}' cannot be loaded: {type(error).__name__}: {error}"
        raise ModelLoadError(message) from error
    for warning in caught:
        _log.warning("loading the model warned: %s", warning.message)
    direct = find_direct_model(model, flavour, signature)
    if signature is not None and flavour.get("loader_module") == "mlflow.sklearn":
        signature = with_tried_nulls(model, signature)
    scorer = MlflowScorer(model, signature, direct, refuse_extra=refuse_extra)
    if flavour.get("loader_module") == "mlflow.sklearn":
        scorer.expect_width(getattr(estimator_of(model), "n_features_in_", None))
    row_wise = flavour.get("loader_module") in _ROW_WISE_LOADERS
    # Custom code may hold what belongs to the thread that made it, so it stays on the thread that loaded it.
    scorer.may_run_inline = row_wise
    scorer.batches = (
        signature is not None and bool(signature.columns) and (batching == "on" or (batching == "auto" and row_wise))
    )
    python = (flavour.get("python_version") or "").rpartition(".")[0]
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if python and python != here:
        _log.warning("the model was logged under Python %s and is served under %s", python, here)
    return scorer


def _refuse_non_finite(parsed: Parsed) -> None:
    """Refuse what JSON does not have; where a signature has columns, each cell is looked at anyway."""
    found = first_non_finite(parsed.table.rows if parsed.table is not None else parsed.tensors)
    if found is not None:
        raise BadInputError(f"The data has {found}, which is no JSON value. Send null for a missing one.")


def _length(value: Any) -> int:
    if isinstance(value, dict):
        value = next(iter(value.values()), None)
    return len(value) if isinstance(value, list) else 1
