"""
Checked rows and tensors as what a model takes: pandas tables and numpy arrays of the signature's types.

The only module that builds them, so numpy and pandas are imported here, inside the calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlops_core.serving.errors import BadInputError
from mlops_core.serving.parsing import Table
from mlops_core.serving.signature import TensorSpec
from mlops_core.serving.validation import Rows

_NUMPY_TYPES = {
    "double": "float64",
    "float": "float32",
    "long": "int64",
    "integer": "int32",
    "boolean": "bool",
    "datetime": "datetime64[ns]",
}


def to_frame(parts: Sequence[Rows]) -> Any:
    """Build one pandas table of several requests' rows, which must have the same columns."""
    import numpy as np
    import pandas as pd

    first = parts[0]
    rows = [row for part in parts for row in part.rows]
    index = first.index if len(parts) == 1 else None
    columns = {}
    for position in range(len(first.columns)):
        values = [row[position] for row in rows]
        numpy_type = _NUMPY_TYPES.get(first.types[position])
        if numpy_type is None:
            columns[position] = pd.Series(
                values, index=index, dtype=None if any(v is not None for v in values) else object
            )
        elif numpy_type[0] in "ib" and None in values:
            columns[position] = pd.Series(values, index=index, dtype=object)
        else:
            columns[position] = pd.Series(np.array(values, dtype=numpy_type), index=index)
    # Without columns, as where all are optional and none was sent, only the index says how many rows there are.
    frame = pd.DataFrame(columns) if columns else pd.DataFrame(index=range(len(rows)))
    frame.columns = pd.Index(first.columns)
    return frame


def to_matrix(parts: Sequence[Rows], numpy_type: str) -> Any:
    """
    Build the array that scikit-learn would make of the same table: shape (n_rows, n_columns), columns contiguous.

    The order of memory matters to the last bit: numerical libraries sum in another order for another layout.
    """
    import numpy as np

    rows = parts[0].rows if len(parts) == 1 else [row for part in parts for row in part.rows]
    return np.array(rows, dtype=numpy_type, order="F")


def unsigned_frame(table: Table) -> Any:
    """Build a pandas table without a signature: types as pandas infers them from the body."""
    import pandas as pd

    try:
        return pd.DataFrame(table.rows, columns=table.columns, index=table.index)
    except (ValueError, TypeError) as error:
        message = f"The rows make no table: {error}. Give each row as many values as there are columns."
        raise BadInputError(message) from error


def unsigned_tensors(value: Any) -> Any:
    """Build arrays without a signature: one, or a mapping of names to arrays."""
    import numpy as np

    try:
        if isinstance(value, dict):
            return {name: np.array(item) for name, item in value.items()}
        return np.array(value)
    except ValueError as error:
        message = f"The data makes no array: {error}. Make nested lists equally long."
        raise BadInputError(message) from error


def to_tensors(value: Any, specs: Sequence[TensorSpec]) -> Any:
    """
    Build the tensors that the signature asks for: one array, or a mapping of names to arrays.

    Raises:
        BadInputError: A name is missing, or a type or a shape differs; names the tensor.
    """
    if not any(spec.name for spec in specs):
        return _tensor(value, specs[0])
    if not isinstance(value, dict):
        if len(specs) > 1:
            names = ", ".join(spec.name for spec in specs)
            message = f"The model takes the named tensors {names}. Send an object with a list for each."
            raise BadInputError(message)
        value = {specs[0].name: value}
    missing = [spec.name for spec in specs if spec.name not in value]
    if missing:
        message = f"Tensor '{missing[0]}' is missing; the request has {', '.join(value) or 'none'}. Send it too."
        raise BadInputError(message, problems=[{"column": name, "message": "is missing"} for name in missing])
    return {spec.name: _tensor(value[spec.name], spec) for spec in specs}


def tensors_from_table(table: Table, specs: Sequence[TensorSpec]) -> Any:
    """Read a table as tensors: a column per named tensor, or all of it as the one unnamed tensor."""
    if any(spec.name for spec in specs):
        rows: list[dict[str, Any]] = table.rows
        if not table.records:
            columns = table.columns or [spec.name for spec in specs]
            rows = [dict(zip(columns, row)) for row in table.rows]  # noqa: B905 - strict= came with Python 3.10
        names = [spec.name for spec in specs if rows and all(spec.name in row for row in rows)]
        return to_tensors({name: [row[name] for row in rows] for name in names}, specs)
    return to_tensors([list(row.values()) if table.records else row for row in table.rows], specs)


def _tensor(value: Any, spec: TensorSpec) -> Any:
    import numpy as np

    label = f"Tensor '{spec.name}'" if spec.name else "The tensor"
    target = np.dtype(spec.dtype)
    try:
        array = np.array(value)
    except ValueError as error:
        message = f"{label} has lists of unequal length. It needs {spec.dtype} of shape {list(spec.shape)}."
        raise BadInputError(message, column=spec.name) from error
    if not _fits(array, target):
        held = {"U": "text", "O": "mixed"}.get(array.dtype.kind, array.dtype.name)
        message = (
            f"{label} holds {held} values, and the model takes {spec.dtype}. Send those, in range and without null."
        )
        raise BadInputError(message, column=spec.name)
    wanted = spec.shape
    same_rank = array.ndim == len(wanted)
    if not same_rank or any(w not in (-1, have) for w, have in zip(wanted, array.shape)):  # noqa: B905 - ranks are equal
        message = f"{label} has the shape {list(array.shape)}, and the model takes {list(wanted)} (-1: any length)."
        raise BadInputError(message, column=spec.name)
    return array.astype(target)


def _fits(array: Any, target: Any) -> bool:
    import numpy as np

    kind = array.dtype.kind
    if target.kind == "f":
        return kind in "iuf" and (array.size == 0 or bool(np.abs(array).max() <= np.finfo(target).max))
    if target.kind in "iu":
        whole = kind in "iu" or (kind == "f" and bool((array == np.floor(array)).all()))
        limits = np.iinfo(target)
        return whole and (array.size == 0 or bool(limits.min <= array.min() and array.max() <= limits.max))
    if target.kind in "SU":
        return bool(kind == "U")
    return target.kind in {kind, "O"}
