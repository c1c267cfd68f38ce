"""
How the scoring app is told what to serve: the command line, environment variables, or a JSON file.

Each option exists in all three: `--max-batch-rows 64` is `HEADRACE_SERVING_MAX_BATCH_ROWS=64` is `{"max_batch_rows":
64}` in the file named by `--spec`. The command line wins over the environment, the environment over the file. The
environment is handed in, not read here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mlops_core.serving.errors import ServingError

ENVIRONMENT_PREFIX = "HEADRACE_SERVING_"


class OptionError(ServingError):
    """An option is missing, unknown or has a value that is not allowed."""


@dataclass(frozen=True)
class Options:
    """What to serve, where, and within which limits."""

    model: str = ""
    "The model's folder (with an MLmodel file), or the file or folder that score.py reads."
    model_root: str = ""
    "What AZUREML_MODEL_DIR names for a score.py, as it is; empty: a folder of links to the model (see model_dir.py)."
    model_folder: str = ""
    "What the model's folder was called where it was registered: score.py finds it under that name. Empty: not known."
    model_links: str = ""
    "Where the folder of links is made; empty: a temporary one."
    code: str = ""
    "A score.py with init() and run(); empty for MLflow models."
    name: str = "model"
    "The model's registered name, shown in headers, metrics and /schema."
    version: str = ""
    "Its version, shown in the same places."
    digest: str = ""
    "Refuse the model unless its tree digest (see digest.py) is this; empty: not compared."
    manifest: str = ""
    "Address of a list of files to fetch before anything is loaded (see fetch.py); empty: the model is here."
    manifest_digest: str = ""
    "SHA-256 of that list, in hex; without it nothing is fetched."
    fetch_to: str = "/var/headrace"
    "Folder that the files of the manifest are put into."
    identity: str = ""
    "Client id of the managed identity that fetches; empty: the only one."
    host: str = "127.0.0.1"
    "Address to bind."
    port: int = 5001
    "TCP port; 0 takes a free one."
    fd: int = -1
    "Number of an inherited listening socket, instead of host and port; -1: none."
    port_file: str = ""
    "Write the port there once the socket listens; empty: nowhere."
    batching: str = "auto"
    "Put waiting requests together: auto (where the model's kind is known to predict row by row), on, off."
    max_batch_rows: int = 1024
    "Rows in one call of the model, at most; a larger request goes alone."
    max_queue: int = 512
    "Requests that may wait; above that, 503."
    request_timeout_seconds: float = 60.0
    "A request that waits longer gets 504."
    max_body_bytes: int = 16 * 1024 * 1024
    "Larger bodies get 413."
    drain_seconds: float = 25.0
    "After SIGTERM, requests in flight have so long to finish."
    linger_seconds: float = 3.0
    "After a failed load, the reason can be read at /health/ready for so long."
    extra_columns: str = "ignore"
    "Columns that the signature does not know: ignore (as MLflow does) or refuse."
    log_level: str = "info"
    "debug, info, warning or error."
    check: bool = False
    "Load the model, say whether that went well, and end."


_CHOICES = {
    "batching": ("auto", "on", "off"),
    "extra_columns": ("ignore", "refuse"),
    "log_level": ("debug", "info", "warning", "error"),
}
_DEFAULTS = Options()


def read_options(arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """
    Put the options together from their three sources.

    Raises:
        OptionError: Something is missing, unknown or not allowed; names the option and where it came from.
    """
    given = vars(_parser().parse_args(list(arguments)))
    spec_path = given.pop("spec") or environment.get(f"{ENVIRONMENT_PREFIX}SPEC", "")
    values: dict[str, Any] = _from_spec(spec_path) if spec_path else {}
    for field in fields(Options):
        text = environment.get(ENVIRONMENT_PREFIX + field.name.upper())
        if text is not None:
            values[field.name] = _converted(field.name, text, ENVIRONMENT_PREFIX + field.name.upper())
    for name, value in given.items():
        if value is not None:
            values[name] = value if value is True else _converted(name, value, "--" + name.replace("_", "-"))
    if not values.get("model") and not values.get("code"):
        message = (
            f"No model was named. Give --model PATH (or {ENVIRONMENT_PREFIX}MODEL, or 'model' in the --spec file)."
        )
        raise OptionError(message)
    return Options(**values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mlops_core.serving", description="Serve one model over HTTP.")
    parser.add_argument("--spec", help="a JSON file with any of these options, words joined by _")
    for field in fields(Options):
        flag = "--" + field.name.replace("_", "-")
        default = getattr(_DEFAULTS, field.name)
        if isinstance(default, bool):
            parser.add_argument(flag, action="store_const", const=True)
        else:
            parser.add_argument(flag, help=f"default: {default!r}")
    return parser


def _from_spec(path: str) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        message = f"The options file '{path}' cannot be read: {error}. Give a JSON object."
        raise OptionError(message) from error
    if not isinstance(content, dict):
        message = f'The options file \'{path}\' holds no JSON object. Write one, for example {{"model": "folder"}}.'
        raise OptionError(message)
    known = {field.name for field in fields(Options)}
    unknown = sorted(set(content) - known)
    if unknown:
        message = f"The options file '{path}' has unknown keys {unknown}. Known are {sorted(known)}."
        raise OptionError(message)
    return {name: _converted(name, value, f"'{name}' in '{path}'") for name, value in content.items()}


def _converted(name: str, value: Any, source: str) -> Any:
    default = getattr(_DEFAULTS, name)
    try:
        if isinstance(default, bool):
            converted: Any = str(value).lower() in {"1", "true", "yes"}
        else:
            converted = type(default)(value)
    except (TypeError, ValueError) as error:
        message = f"{source} is '{value}', which is no {type(default).__name__}. Its default is {default!r}."
        raise OptionError(message) from error
    allowed = _CHOICES.get(name)
    if allowed and converted not in allowed:
        message = f"{source} is '{value}'. Give one of {', '.join(allowed)}."
        raise OptionError(message)
    if isinstance(default, (int, float)) and name not in {"fd", "check", "port", "linger_seconds"} and converted <= 0:
        message = f"{source} is '{value}'. Give a number above 0."
        raise OptionError(message)
    return converted
