"""
What a model returned, as JSON: the same lists that MLflow's own server would write.

Numbers that JSON lacks (NaN, infinity) become null, since an answer that no strict parser reads is of no use.
"""

from __future__ import annotations

import json
import math
from typing import Any


def to_plain(predictions: Any) -> Any:
    """Turn arrays, series and tables into lists, mappings and scalars; tables become lists of records."""
    kind = type(predictions)
    if kind.__module__.partition(".")[0] in {"numpy", "pandas", "scipy"}:
        if hasattr(predictions, "to_dict") and hasattr(predictions, "columns"):
            return [{str(k): to_plain(v) for k, v in row.items()} for row in predictions.to_dict(orient="records")]
        if hasattr(predictions, "toarray"):
            return predictions.toarray().tolist()
        if hasattr(predictions, "tolist") and getattr(predictions, "ndim", 0) > 0:
            return _texts(predictions.astype(str).tolist() if _is_moment(predictions) else predictions.tolist())
        if hasattr(predictions, "isoformat"):
            return predictions.isoformat()
        return predictions.item() if hasattr(predictions, "item") else str(predictions)
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
    return getattr(predictions.dtype, "kind", "") in {"M", "m"}


def _texts(values: Any) -> Any:
    if isinstance(values, list) and values and isinstance(values[0], (list, bytes, dict)):
        return [value.decode("utf-8", "replace") if isinstance(value, bytes) else to_plain(value) for value in values]
    return values


def _fallback(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return _finite(value.tolist()) if hasattr(value, "tolist") else value
