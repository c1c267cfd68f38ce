"""Command line, environment and file: who wins, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlops_core.serving.options import OptionError, read_options


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"model": "a", "port": 1, "max_queue": 3, "name": "n"}))
    environment = {"HEADRACE_SERVING_PORT": "2", "HEADRACE_SERVING_MAX_QUEUE": "4"}
    options = read_options(["--spec", str(spec), "--port", "5"], environment)
    assert (options.port, options.max_queue, options.name, options.model) == (5, 4, "n", "a")


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        ([], {}, "No model was named"),
        (["--model", "m", "--port", "x"], {}, "--port is 'x'"),
        (["--model", "m", "--batching", "maybe"], {}, "auto, on, off"),
        (["--model", "m"], {"HEADRACE_SERVING_MAX_QUEUE": "0"}, "HEADRACE_SERVING_MAX_QUEUE is '0'"),
        (["--spec", "/nowhere.json"], {}, "cannot be read"),
    ],
)
def test_what_is_not_allowed_is_named(arguments: list[str], environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        read_options(arguments, environment)


def test_an_unknown_key_of_the_file_is_named(tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text('{"model": "m", "prot": 1}')
    with pytest.raises(OptionError, match="prot"):
        read_options(["--spec", str(spec)], {})
