"""Whatever a model returns becomes JSON that any parser reads."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_core.serving.answers import to_json, to_plain

NAN = float("nan")


@pytest.mark.parametrize(
    ("returned", "written"),
    [
        (np.array([1.5, NAN, np.inf]), "[1.5, null, null]"),
        (np.array([[1, 2]]), "[[1, 2]]"),
        (np.float32(0.5), "0.5"),
        (np.bool_(True), "true"),
        ([np.int64(3), {"p": np.float64("nan")}], '[3, {"p": null}]'),
        (pd.Series(["a", None], dtype="string"), '["a", null]'),
        (pd.Series([1, None], dtype="Int64"), "[1, null]"),
        (pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), '[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]'),
        (pd.DataFrame({"t": [pd.NaT, pd.Timestamp("2024-05-31")]}), '[{"t": null}, {"t": "2024-05-31T00:00:00"}]'),
        (np.array(["2024-05-31", "NaT"], dtype="datetime64[s]"), '["2024-05-31T00:00:00", null]'),
        (np.array(["NaT"]), '["NaT"]'),
        (np.array([b"\x00\x01"]), '["AAE="]'),
        (b"\x00\x01\x02", '"AAEC"'),
        ({1: (1, 2)}, '{"1": [1, 2]}'),
        (dt.datetime(2024, 5, 31, tzinfo=dt.UTC), '"2024-05-31T00:00:00+00:00"'),
        (Decimal("0.1"), '"0.1"'),
        ("plain", '"plain"'),
        (None, "null"),
    ],
    ids=repr,
)
def test_an_answer_is_plain_json(returned: Any, written: str) -> None:
    assert to_json(to_plain(returned)).decode() == written
