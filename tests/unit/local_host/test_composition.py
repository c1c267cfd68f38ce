"""How the parts of a laptop are put together."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_core.adapters.local.scoring_launch import Launch
from mlops_core.composition.local import once_answered
from mlops_core.domain.ids import DeploymentName, ModelName, ModelVersion, ProjectName
from mlops_core.domain.project import Serve
from mlops_core.ports import DeploymentRequest, ProjectRecord

REQUEST = DeploymentRequest(
    name=DeploymentName("tiny-v1"),
    model=ModelName("tiny"),
    version=ModelVersion("1"),
    project=ProjectRecord(name=ProjectName("tiny"), host="local", repository="tiny", clone_url="/tiny.git"),
    commit=None,
    serve=Serve(),
)


@pytest.mark.parametrize("silent", [0, 2])
def test_a_model_is_prepared_once_the_registry_answers(tmp_path: Path, silent: int) -> None:
    asked: list[str] = []
    launch = Launch(command=("true",), environment={})

    def answers() -> bool:
        asked.append("asked")
        return len(asked) > silent

    def prepare(_request: DeploymentRequest, _folder: Path) -> Launch:
        asked.append("prepared")
        return launch

    assert once_answered(answers, prepare, pause=lambda _: None)(REQUEST, tmp_path) == launch
    assert asked == ["asked"] * (silent + 1) + ["prepared"]
