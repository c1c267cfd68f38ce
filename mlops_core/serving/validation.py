"""
A request's table against the model's signature: the rows in the model's column order, or every problem with its
place.

Extra columns are ignored, as MLflow does, unless the app is told to refuse them. All problems are collected (up to
twenty), so that a client mends them in one go.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any

from mlops_core.serving.cells import WrongCellError, cell_rule, plain_types
from mlops_core.serving.errors import BadInputError
from mlops_core.serving.parsing import Table
from mlops_core.serving.signature import ColumnSpec, Signature

_MOST_PROBLEMS = 20
_INFINITE = float("inf")


@dataclass(frozen=True)
class Rows:
    """Checked rows: `columns` in the signature's order (positions where it has no names), one list per row."""

    columns: tuple[Any, ...]
    types: tuple[str, ...]
    rows: list[list[Any]]
    index: list[Any] | None = None


@dataclass
class _Problems:
    found: list[dict[str, Any]] = field(default_factory=list)

    def add(self, message: str, *, row: int | None = None, column: str | None = None) -> None:
        self.found.append({"row": row, "column": column, "message": message})
        if len(self.found) >= _MOST_PROBLEMS:
            self.raise_if_any()

    def raise_if_any(self) -> None:
        if not self.found:
            return
        first = self.found[0]
        place = "" if first["row"] is None else f"Row {first['row']}"
        column = "" if first["column"] is None else f"{', column' if place else 'Column'} '{first['column']}':"
        place = f"{place}{column} " if place or column else ""
        more = f" ({len(self.found) - 1} more under 'problems')" if len(self.found) > 1 else ""
        raise BadInputError(f"{place}{first['message']}{more}", problems=self.found)


class TableReader:
    """Reads tables for one signature; what depends on the signature alone is worked out once."""

    def __init__(self, signature: Signature, *, refuse_extra: bool = False) -> None:
        self._specs = signature.columns
        self._named = signature.is_named
        self._refuse_extra = refuse_extra
        self._names = [spec.name for spec in signature.columns]
        self._plain = {spec: plain_types(spec) for spec in signature.columns}
        self._rules = {spec: cell_rule(spec) for spec in signature.columns}

    def read(self, table: Table) -> Rows:
        """
        Bring the rows into the signature's order and check every cell.

        Raises:
            BadInputError: Columns are missing, rows have the wrong length, or cells the wrong type.
        """
        if not table.rows:
            message = "The request has no rows. Send at least one."
            raise BadInputError(message)
        if table.records:
            specs, rows = self._from_records(table.rows)
        else:
            specs, rows = self._from_lists(table)
        checked = self._check_cells(specs, rows)
        columns = tuple(spec.name if self._named else position for position, spec in enumerate(specs))
        if not self._named and table.columns is not None:
            columns = tuple(table.columns)
        return Rows(columns, tuple(spec.type for spec in specs), checked, table.index)

    def _from_records(self, records: list[dict[str, Any]]) -> tuple[tuple[ColumnSpec, ...], list[list[Any]]]:
        if not self._named:
            message = (
                "The model's columns have no names, so records cannot be matched. Send lists of values, by position."
            )
            raise BadInputError(message)
        names, problems, rows = self._names, _Problems(), []
        for number, record in enumerate(records):
            try:
                rows.append([record[name] for name in names])
            except KeyError:
                self._find_missing(record, problems, number)
                rows.append([record.get(name) for name in names])
            if self._refuse_extra and len(record) > len(names):
                self._find_extra(record, problems, number)
        problems.raise_if_any()
        absent = {
            spec for spec in self._specs if not spec.required and not any(spec.name in record for record in records)
        }
        if not absent:
            return self._specs, rows
        kept = [position for position, spec in enumerate(self._specs) if spec not in absent]
        return tuple(self._specs[position] for position in kept), [[row[position] for position in kept] for row in rows]

    def _from_lists(self, table: Table) -> tuple[tuple[ColumnSpec, ...], list[list[Any]]]:
        columns = table.columns
        width = len(self._specs) if columns is None else len(columns)
        problems = _Problems()
        for number, row in enumerate(table.rows):
            if not isinstance(row, list):
                problems.add("is no list of values. Send one list per row.", row=number)
            elif len(row) != width:
                problems.add(f"has {len(row)} values for {width} columns ({self._listed(columns)}).", row=number)
        problems.raise_if_any()
        if columns is None or columns == self._names:
            return self._specs, table.rows
        if not self._named:
            if width != len(self._specs):
                message = f"The request has {width} columns, and the model takes {len(self._specs)}. Send as many."
                raise BadInputError(message)
            return self._specs, table.rows
        return self._reordered(columns, table.rows)

    def _reordered(self, columns: list[Any], rows: list[list[Any]]) -> tuple[tuple[ColumnSpec, ...], list[list[Any]]]:
        problems, place = (
            _Problems(),
            {name: position for position, name in enumerate(columns) if isinstance(name, str)},
        )
        for name in columns:
            if columns.count(name) > 1:
                problems.add("is there twice. Send each column once.", column=str(name))
        self._find_missing(place, problems, None)
        if self._refuse_extra:
            self._find_extra(dict.fromkeys(columns), problems, None)
        problems.raise_if_any()
        specs = tuple(spec for spec in self._specs if spec.name in place)
        order = [place[spec.name] for spec in specs]
        return specs, [[row[position] for position in order] for row in rows]

    def _find_missing(self, given: dict[str, Any], problems: _Problems, row: int | None) -> None:
        extra = [name for name in given if name not in self._names]
        for spec in self._specs:
            if spec.required and spec.name not in given:
                close = difflib.get_close_matches(spec.name, extra, n=1)
                hint = f" Did you mean it by '{close[0]}'?" if close else ""
                problems.add(f"is missing; the model needs it as '{spec.type}'.{hint}", row=row, column=spec.name)

    def _find_extra(self, given: dict[str, Any], problems: _Problems, row: int | None) -> None:
        for name in given:
            if name not in self._names:
                message = f"is not one that the model knows ({self._listed(None)}). Leave it out."
                problems.add(message, row=row, column=str(name))

    def _check_cells(self, specs: tuple[ColumnSpec, ...], rows: list[list[Any]]) -> list[list[Any]]:
        plain = [self._plain[spec] for spec in specs]
        problems, checked = _Problems(), []
        for number, row in enumerate(rows):
            clean = _INFINITE not in row and -_INFINITE not in row
            for position, value in enumerate(row):
                if type(value) not in plain[position]:
                    clean = False
                    break
            checked.append(row if clean else self._checked_row(specs, row, number, problems))
        problems.raise_if_any()
        return checked

    def _checked_row(
        self, specs: tuple[ColumnSpec, ...], row: list[Any], number: int, problems: _Problems
    ) -> list[Any]:
        values = []
        for spec, value in zip(specs, row):  # noqa: B905 - strict= came with Python 3.10; lengths are checked above
            try:
                values.append(self._rules[spec](value))
            except WrongCellError as error:
                problems.add(str(error), row=number, column=spec.name or str(len(values)))
                values.append(None)
        return values

    def _listed(self, columns: list[Any] | None) -> str:
        names = [str(name) for name in (self._names if columns is None else columns)]
        return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")  # noqa: PLR2004 - enough to recognise them
