"""The generated pages are what the code says now, and every public function in the core is documented."""

from __future__ import annotations

import ast
import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from mlops_core.manifest import read_manifest
from mlops_core.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["states.md", "mlops-yaml.md", "settings.md", "cli.md", "http-api.md"])
def test_a_generated_page_is_not_stale(page: str) -> None:
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")

    assert written == generator().PAGES[page](), f"docs/{page} is stale: run 'make docs'"


def test_every_setting_is_documented_under_the_name_that_is_read() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \|.*\| (.+) \|$", (ROOT / "docs" / "settings.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    known = {str(field.validation_alias or f"HEADRACE_{name.upper()}") for name, field in Settings.model_fields.items()}

    assert {name for name, _ in rows} == known
    assert all(len(text.split()) > 2 for _, text in rows)


def test_every_public_function_and_class_of_the_core_says_what_it_is_for() -> None:
    missing = []
    for path in sorted((ROOT / "mlops_core").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not ast.get_docstring(tree) and path.name != "__init__.py":
            missing.append(str(path.relative_to(ROOT)))
        silent = [node for node in _public(tree) if not ast.get_docstring(node)]
        missing += [f"{path.relative_to(ROOT)}:{node.lineno} {node.name}" for node in silent]

    assert missing == []


def _public(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    found: list[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef] = []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            found.append(node)
            if isinstance(node, ast.ClassDef):
                methods = (part for part in node.body if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)))
                found += [method for method in methods if not method.name.startswith("_")]
    return found


def pins(path: str = "requirements.txt") -> dict[str, list[str]]:
    """Read what is pinned, each with its hashes."""
    text = (ROOT / path).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return {line[0]: line[1:] for line in lines}


def test_requirements_of_the_function_app_are_pinned_and_meet_the_projects_own() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {name: Version(version) for line in pins() for name, version in [line.split("==")]}

    wanted = [Requirement(line) for line in (*project["dependencies"], *project["optional-dependencies"]["azure"])]
    for requirement in wanted:
        assert requirement.specifier.contains(pinned[requirement.name], prereleases=True), requirement
    assert not {"mlflow", "pandas", "numpy", "scikit-learn", "uvicorn", "typer"} & set(pinned)


def test_the_same_pins_stand_beside_with_hashes_and_nothing_else() -> None:
    """Pip takes hashes for all or for none, and an option in a file would lead to another index."""
    hashed = pins("infra/requirements.hashes.txt")

    assert list(pins()) == list(hashed)
    assert not any(pins().values())
    for line, rest in hashed.items():
        assert rest, line
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", part) for part in rest), line


def test_the_changelog_has_the_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)

    assert headings[0] == "Unreleased" or headings[0] == project["project"]["version"]


def test_the_readme_leads_to_every_page_within_two_screens() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}

    assert {page for page in pages if f"](docs/{page})" not in text} == set()
    assert len(text.splitlines()) <= 80


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))])
def test_every_link_within_the_documents_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)

    assert [target for target in targets if not ((ROOT / page).parent / target).exists()] == []


def test_what_troubleshooting_quotes_is_said_by_the_code() -> None:
    """Each quoted message of its first column, without the parts that vary, stands in the source."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    source = " ".join(
        re.sub(r'["\']\s*\n\s*f?["\']', "", path.read_text(encoding="utf-8"))
        for path in (ROOT / "mlops_core").rglob("*.py")
    )
    quoted = [text for row in page.splitlines() if row.startswith("| ") for text in _CODE.findall(row.split("|")[1])]
    parts = [part.strip(" :;") for text in quoted for part in re.split(r"\.\.\.|'[^']*'|\d+(?:\.\d+)?|\bN\b", text)]

    assert len(quoted) > 15
    others = {"No space left on device", "Invalid model version source"}  # the system's words, and MLflow's
    assert {part for part in parts if len(part) > 3 and part not in source} == others


_CODE = re.compile(r"`([^`]+)`")


def test_the_declarations_that_the_tutorial_shows_are_valid() -> None:
    tutorial = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", tutorial, re.MULTILINE | re.DOTALL)
    whole = [block for block in blocks if block.startswith("project:")]
    parts = [block for block in blocks if not block.startswith("project:")]

    assert (len(whole), len(parts)) == (1, 1)
    for text in (whole[0], "project: taxi\ntrain: {pipeline: p.yml, model: m}\n" + parts[0]):
        assert read_manifest(text.encode()).project == "taxi"
