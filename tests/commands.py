"""What a test calls to type a command of `headrace`; the fixture is in `tests/unit/cli/conftest.py`."""

from __future__ import annotations

from collections.abc import Callable

from typer.testing import Result

Headrace = Callable[..., Result]
