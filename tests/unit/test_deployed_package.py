"""What `azd deploy` uploads: the function app with all that it imports, and nothing that only others need."""

from __future__ import annotations

import ast
import importlib.util
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

CHECKOUT = Path(__file__).parents[2]
# Chosen by the settings of a laptop only; what they import stays there too.
LAPTOP = {"mlops_core/composition/local.py"}


@pytest.fixture(scope="module")
def package() -> ModuleType:
    spec = importlib.util.spec_from_file_location("infra_package", CHECKOUT / "infra" / "package.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def deployed(package: ModuleType) -> set[str]:
    return {path.as_posix() for path in package.deployed()}


def test_what_the_functions_host_needs_is_deployed(deployed: set[str]) -> None:
    assert {"function_app.py", "host.json", "requirements.txt", "handlers/webhook.py"} <= deployed
    assert {"mlops_core/composition/azure.py", "mlops_core/serving/__main__.py"} <= deployed


def test_tests_examples_docs_and_the_laptop_are_not_deployed(deployed: set[str]) -> None:
    kept = {
        "function_app.py", "host.json", "requirements.txt", "handlers", "mlops_core",
    }  # fmt: skip
    assert {name.split("/")[0] for name in deployed} == kept
    for place in ("mlops_core/adapters/local/", "mlops_core/cli/", "mlops_core/examples/"):
        assert not [name for name in deployed if name.startswith(place)], place


def imported(path: str) -> Iterator[str]:
    """Name every module of ours that a file imports, wherever in it."""
    for node in ast.walk(ast.parse((CHECKOUT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def file_of(module: str) -> str | None:
    """Find the file of a module of ours; None where it is another's, or a name within a module."""
    place = module.replace(".", "/")
    for path in (f"{place}.py", f"{place}/__init__.py"):
        if module.split(".", maxsplit=1)[0] in ("mlops_core", "handlers") and (CHECKOUT / path).exists():
            return path
    return None


def test_nothing_that_is_deployed_imports_what_is_not(deployed: set[str]) -> None:
    """Many imports are inside functions, so that only a call on Azure would find one that is missing."""
    missing = [
        f"{path} imports {module}"
        for path in sorted(deployed)
        if path.endswith(".py") and path not in LAPTOP
        for module in imported(path)
        if (found := file_of(module)) is not None and found not in deployed
    ]
    assert missing == []


def test_the_size_of_the_package_is_told(
    package: ModuleType, deployed: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package.main(tmp_path, installed=False)
    target = tmp_path / "headrace.zip"
    assert f"{len(deployed)} files, {target.stat().st_size / 1e3:.0f} kB" in capsys.readouterr().out
    assert set(zipfile.ZipFile(target).namelist()) == deployed
    assert target.stat().st_size < 1_000_000
