"""Plans are kept by the content of what they were made from, and a kept one costs no import of azure-ai-ml."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlops_core.pipelines.errors import PipelineInvalidError
from mlops_core.pipelines.loader import LoadRequest
from mlops_core.pipelines.plan_cache import PlanCache

pytestmark = pytest.mark.slow

HARBOUR = Path(__file__).parent / "fixtures" / "harbour"


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory) -> PlanCache:
    return PlanCache(tmp_path_factory.mktemp("plans"))


@pytest.fixture
def harbour(tmp_path: Path) -> Path:
    return Path(shutil.copytree(HARBOUR, tmp_path / "harbour"))


def request(root: Path, **extra: Any) -> LoadRequest:
    return LoadRequest(root / "azureml" / "pipeline.yml", root, **extra)


def test_nothing_is_found_before_the_first_plan_and_the_same_plan_after(cache: PlanCache, harbour: Path) -> None:
    assert cache.find(request(harbour)) is None
    plan = cache.load(request(harbour))
    assert cache.find(request(harbour)) == plan


def test_a_plan_serves_another_checkout_of_the_same_content(cache: PlanCache, harbour: Path, tmp_path: Path) -> None:
    plan = cache.load(request(harbour))
    other = Path(shutil.copytree(harbour, tmp_path / "other"))
    assert cache.find(request(other)) == plan


@pytest.mark.parametrize(
    "name",
    ["azureml/pipeline.yml", "azureml/components/train.yml", "environments/conda.yml", "azureml/assets/data.yml"],
)
def test_a_changed_file_makes_a_new_plan(cache: PlanCache, harbour: Path, name: str) -> None:
    cache.load(request(harbour))
    (harbour / name).write_text((harbour / name).read_text() + "\n# changed\n")
    assert cache.find(request(harbour)) is None


def test_a_new_asset_file_makes_a_new_plan_since_it_may_be_the_latest(cache: PlanCache, harbour: Path) -> None:
    cache.load(request(harbour))
    newer = (harbour / "azureml/assets/data.yml").read_text().replace("version: 4", "version: 5")
    (harbour / "azureml/assets/data5.yml").write_text(newer)
    assert cache.find(request(harbour)) is None
    source = cache.load(request(harbour)).inputs["tides"].source
    assert getattr(source, "asset_version", None) == "5"


def test_code_that_is_gone_is_told_and_not_taken_from_the_cache(cache: PlanCache, harbour: Path) -> None:
    cache.load(request(harbour))
    shutil.rmtree(harbour / "azureml/components/score")
    with pytest.raises(PipelineInvalidError):
        cache.load(request(harbour))


def test_other_values_of_inputs_are_another_plan(cache: PlanCache, harbour: Path) -> None:
    cache.load(request(harbour))
    assert cache.find(request(harbour, inputs={"rounds": 4})) is None
    assert cache.find(request(harbour, bindings={"azureml:tides@latest": "src"})) is None


def test_the_plan_before_a_change_is_found_again_after_it_is_undone(cache: PlanCache, harbour: Path) -> None:
    plan = cache.load(request(harbour))
    pipeline = harbour / "azureml/pipeline.yml"
    text = pipeline.read_text()
    pipeline.write_text(text.replace("rounds: 3", "rounds: 5"))
    cache.load(request(harbour))
    pipeline.write_text(text)
    assert cache.find(request(harbour)) == plan


def test_a_broken_entry_is_made_again(cache: PlanCache, harbour: Path) -> None:
    plan = cache.load(request(harbour))
    for entry in cache.folder.rglob("*.json"):
        entry.write_text("{")
    assert cache.find(request(harbour)) is None
    assert cache.load(request(harbour)) == plan
    assert cache.find(request(harbour)) == plan


def test_a_kept_plan_and_a_refusal_are_given_without_importing_azure_ai_ml(cache: PlanCache, harbour: Path) -> None:
    cache.load(request(harbour))
    script = f"""
import sys
from pathlib import Path
from mlops_core.pipelines.errors import PipelineInvalidError
from mlops_core.pipelines.loader import LoadRequest
from mlops_core.pipelines.plan_cache import PlanCache
cache, root = PlanCache(Path({str(cache.folder)!r})), Path({str(harbour)!r})
assert len(cache.load(LoadRequest(root / "azureml/pipeline.yml", root)).steps) == 5
try:
    cache.load(LoadRequest(root / "missing.yml", root))
except PipelineInvalidError:
    pass
assert not [name for name in sys.modules if name.startswith("azure.ai") or name == "marshmallow"]
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[3], timeout=60)
