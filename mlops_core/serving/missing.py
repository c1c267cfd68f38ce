"""
Which columns a scikit-learn model takes missing values in. Its signature does not tell, so it is tried at load.

Most estimators raise on a NaN, some take it, and a pipeline may fill it in for some columns only. A client that sends null
where the model cannot take it is to be told the column, and must not look like a model that fails.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from mlops_core.serving import arrays
from mlops_core.serving.signature import Signature
from mlops_core.serving.validation import Rows

_log = logging.getLogger(__name__)
_VALUES: dict[str, Any] = {"double": 0.5, "float": 0.5, "long": 1, "integer": 1, "boolean": True, "string": "text"}
_NUMBERS = frozenset({"double", "float"})
# One call of the model for each column that can hold a missing number; a wider table is left as its signature says.
_MOST_COLUMNS = 64


def with_tried_nulls(model: Any, signature: Signature) -> Signature:
    """Say of each column of numbers whether the model takes null there; what cannot be tried stays as it was."""
    numbers = [place for place, column in enumerate(signature.columns) if column.type in _NUMBERS]
    if not numbers or len(numbers) > _MOST_COLUMNS or any(column.type not in _VALUES for column in signature.columns):
        return signature
    if not _answers(model, signature, []) or _answers(model, signature, numbers):
        return signature
    refused = {place for place in numbers if not _answers(model, signature, [place])}
    columns = tuple(
        replace(column, takes_null=column.takes_null and place not in refused)
        for place, column in enumerate(signature.columns)
    )
    return replace(signature, columns=columns)


def _answers(model: Any, signature: Signature, missing: list[int]) -> bool:
    """Tell whether the model predicts for a made-up row with values missing at these places."""
    columns = signature.columns
    row = [None if place in missing else _VALUES[column.type] for place, column in enumerate(columns)]
    names = tuple(column.name if signature.is_named else place for place, column in enumerate(columns))
    try:
        model.predict(arrays.to_frame([Rows(names, tuple(column.type for column in columns), [row])]))
    except Exception:  # noqa: BLE001 - whatever the model raises on a made-up row, it does not take it
        _log.debug("the model does not take a row with %d missing values", len(missing), exc_info=True)
        return False
    return True
