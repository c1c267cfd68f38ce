"""
What a model returned, as JSON: the same lists that MLflow's own server would write.

Numbers that JSON lacks (NaN, infinity) and missing moments become null, since an answer that no strict parser reads is
of no use; bytes become base64, as they are sent.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Any

_NO_MOMENT = "NaT"
# What pandas calls a missing value, as text.
_MISSING = frozenset({_NO_MOMENT, "<NA>"})


def to_plain(predictions: Any) -> Any:
    """Turn arrays, series and tables into lists, mappings and scalars; tables become lists of records."""
    kind = type(predictions)
    if kind.__module__.partition(".")[0] in {"numpy", "pandas", "scipy"}:
        if hasattr(predictions, "to_dict") and hasattr(predictions, "columns"):
            return [{str(k): to_plain(v) for k, v in row.items()} for row in predictions.to_dict(orient="records")]
        if hasattr(predictions, "toarray"):
            return predictions.toarray().tolist()
        if _is_moment(predictions):
            return _moments(predictions.astype(str).tolist())
        if hasattr(predictions, "tolist") and getattr(predictions, "ndim", 0) > 0:
            return _plain_list(predictions.tolist())
        return predictions.item() if hasattr(predictions, "item") else _fallback(predictions)
    if isinstance(predictions, dict):
        return {str(name): to_plain(value) for name, value in predictions.items()}
    if isinstance(predictions, (list, tuple)):
        return [to_plain(value) for value in predictions]
    return predictions


def to_json(content: Any) -> bytes:
    """Encode as JSON in UTF-8, non-finite numbers as null."""
    try:
        text = json.dumps(content, allow_nan=False, default=_fallback)
    except ValueError:
        text = json.dumps(_finite(content), allow_nan=False, default=_fallback)
    return text.encode()


def _is_moment(predictions: Any) -> bool:
    return getattr(getattr(predictions, "dtype", None), "kind", "") in {"M", "m"}


def _moments(texts: Any) -> Any:
    if isinstance(texts, list):
        return [_moments(text) for text in texts]
    return None if texts == _NO_MOMENT else texts


def _plain_list(values: list[Any]) -> list[Any]:
    """Look into a list only where its first value says that there is something to do."""
    if not values or isinstance(values[0], (float, int, str)):
        return values
    return [_plain_list(value) if isinstance(value, list) else to_plain(value) for value in values]


def _fallback(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return None if text in _MISSING else text


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return _finite(value.tolist()) if hasattr(value, "tolist") else value
