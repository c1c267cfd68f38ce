"""The function app starts cold often: what only a laptop or a job needs must not be imported on its way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
HEAVY = "azure.ai.ml mlflow pandas numpy sklearn typer rich uvicorn starlette croniter psutil".split()  # noqa: SIM905 - a list of words
LOOK = f"""
loaded = [name for name in {HEAVY!r} if name in sys.modules]
assert not loaded, loaded
"""
ANSWER_A_WEBHOOK = """
import azure.functions as func
from mlops_core import bootstrap
from mlops_core.settings import Settings
bootstrap.configure(Settings(data=sys.argv[1]))
request = func.HttpRequest("POST", "/api/webhooks/local", route_params={"host": "local"}, body=b"{}")
assert function_app.take_webhook(request).status_code == 401
"""


def run(script: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys\nimport function_app\n" + script, *arguments],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_importing_the_function_app_imports_nothing_heavy() -> None:
    run(LOOK + "assert 'httpx' not in sys.modules\n")


def test_answering_a_webhook_imports_nothing_heavy(tmp_path: Path) -> None:
    run(ANSWER_A_WEBHOOK + LOOK, str(tmp_path))
