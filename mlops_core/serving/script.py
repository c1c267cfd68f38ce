"""
Azure ML's own kind of model: a `score.py` with `init()` and `run(raw_data)`, its files where Azure would put them.

As in Azure's inference server: `AZUREML_MODEL_DIR` leads to the model, the script's folder is on the import path and the
working directory, `run` gets the body as text, or, decorated with `input_schema`, one argument per key
of the JSON body; what it returns is written as JSON (so text that already is JSON is quoted once more). Where
`run` asks for `request_headers`, it gets an empty mapping.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import logging
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from mlops_core.serving.answers import to_plain
from mlops_core.serving.errors import BadBodyError, BadInputError, ModelLoadError
from mlops_core.serving.parsing import decode_json
from mlops_core.serving.scorers import Declared, Question, RawAnswer
from mlops_core.serving.signature import Signature

_log = logging.getLogger(__name__)
_AZURE_SERVER_MODULES = ("azureml_inference_server_http", "azureml.contrib.services")


class ScriptScorer:
    """A score.py. It is asked one request at a time and always on the thread that ran its `init()`, as in Azure."""

    batches = False
    may_run_inline = False
    signature: Signature | None = None

    def __init__(self, run: Any) -> None:
        self._run = run
        parameters = list(inspect.signature(run).parameters)
        if not parameters:
            message = "run() in score.py takes no argument. Write it as run(raw_data)."
            raise ModelLoadError(message)
        self.declared = _declared(run)
        self.needs_json = self.declared is not None
        self._parameters = [name for name in parameters if name != "request_headers"]
        self._headers: dict[str, Any] = {"request_headers": {}} if "request_headers" in parameters else {}

    def read(self, body: bytes) -> Question:
        """Take the body as text, or apart by the parameters of a decorated `run`."""
        if not self.needs_json:
            try:
                return Question({self._parameters[0]: body.decode("utf-8")})
            except UnicodeDecodeError as error:
                message = f"The body is no UTF-8 at byte {error.start}. Encode it as UTF-8."
                raise BadBodyError(message) from error
        content = decode_json(body)
        given = {str(name).lower(): value for name, value in content.items()} if isinstance(content, dict) else {}
        missing = [name for name in self._parameters if name.lower() not in given]
        if missing:
            message = f"The body has no '{missing[0]}'. run() takes {', '.join(self._parameters)}: send each as a key."
            raise BadInputError(message, problems=[{"column": name, "message": "is missing"} for name in missing])
        return Question({name: given[name.lower()] for name in self._parameters})

    def answer(self, question: Question) -> Any:
        """Call `run`."""
        result = self._run(**question.payload, **self._headers)
        if hasattr(result, "get_data") and hasattr(result, "status_code"):
            content_type = str(getattr(result, "content_type", "") or "application/json")
            return RawAnswer(result.get_data(), int(result.status_code), content_type)
        return {} if result is None else to_plain(result)

    def answer_together(self, questions: list[Question]) -> list[Any]:
        """Call `run` for each; a script sees one body at a time."""
        return [self.answer(question) for question in questions]


def load_script(code: Path, model_dir: Path | None) -> ScriptScorer:
    """
    Import a score.py and call its `init()`.

    Args:
        model_dir: What `AZUREML_MODEL_DIR` names; None for a script without a model.
    Raises:
        ModelLoadError: It is missing, lacks init or run, needs Azure's own server, or raised.
    """
    code = code.resolve()
    _refuse_azure_server(code)
    if model_dir is not None:
        os.environ["AZUREML_MODEL_DIR"] = str(model_dir)  # noqa: TID251 - Azure ML's contract with score.py
    sys.path.insert(0, str(code.parent))
    os.chdir(code.parent)
    try:
        module = _imported(code)
        _require_functions(module, code)
        module.init()
    except ModelLoadError:
        raise
    except SystemExit as error:
        message = f"'{code}' ended the process ({error}). Let init() return or raise."
        raise ModelLoadError(message) from error
    except Exception as error:
        message = f"'{code}' cannot be loaded: {type(error).__name__}: {error}"
        raise ModelLoadError(message) from error
    return ScriptScorer(module.run)


def _require_functions(module: ModuleType, code: Path) -> None:
    for name in ("init", "run"):
        if not callable(getattr(module, name, None)):
            message = f"'{code}' has no function {name}(). Azure ML's scoring scripts have init() and run(raw_data)."
            raise ModelLoadError(message)


def _imported(code: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("entry_module", code)
    if spec is None or spec.loader is None:
        message = f"'{code}' is no Python file. Name a score.py."
        raise ModelLoadError(message)
    module = importlib.util.module_from_spec(spec)
    sys.modules["entry_module"] = module  # pickles made by the script find their classes
    spec.loader.exec_module(module)
    return module


def _refuse_azure_server(code: Path) -> None:
    try:
        tree = ast.parse(code.read_bytes(), filename=str(code))
    except OSError as error:
        message = f"'{code}' cannot be read: {error.strerror}. Name the score.py with --code."
        raise ModelLoadError(message) from error
    except SyntaxError as error:
        message = f"'{code}' line {error.lineno}: {error.msg}. Mend the script."
        raise ModelLoadError(message) from error
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        for name in names:
            if name.startswith(_AZURE_SERVER_MODULES):
                message = (
                    f"'{code}' line {getattr(node, 'lineno', 0)} imports '{name}', which only Azure's server has. "
                    "Write run(raw_data), which gets the body as text, without @rawhttp and AMLResponse."
                )
                raise ModelLoadError(message)


def _declared(run: Any) -> Declared | None:
    """Read what `inference_schema`'s decorators say of `run`; None where it has none."""
    schema_util = sys.modules.get("inference_schema.schema_util")
    if schema_util is None or not schema_util.is_schema_decorated(run):
        return None
    return Declared(_schema_of(schema_util.get_input_schema, run), _schema_of(schema_util.get_output_schema, run))


def _schema_of(read: Any, run: Any) -> dict[str, Any] | None:
    """Read one of the two schemas; the library has its own ways to say that it is not there."""
    try:
        found = read(run)
    except Exception:  # noqa: BLE001 - another library's; without the schema everything else works
        _log.debug("run() declares no such schema", exc_info=True)
        return None
    return found if isinstance(found, dict) and found else None
