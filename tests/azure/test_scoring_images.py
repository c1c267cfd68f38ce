"""Scoring images: built once per content of an environment, by the registry, without waiting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from arm_double import GROUP, SUBSCRIPTION, ArmDouble, Fault
from arm_registry import REGISTRY, Registry
from container_bench import HandClock

from mlops_core.adapters.azure.image_context import make_context
from mlops_core.adapters.azure.scoring_image import ImageOptions, ScoringImages
from mlops_core.domain.errors import BadInputError, TemporaryError
from mlops_core.pipelines.plan import EnvironmentSpec

CONDA = {"name": "mlflow-env", "dependencies": ["python=3.11.4", "pip<=24", {"pip": ["mlflow==3.1", "pandas==2.2.3"]}]}
ENVIRONMENT = EnvironmentSpec(name="model diabetes:1", conda=CONDA)


@dataclass
class ImageBench:
    arm: ArmDouble
    registry: Registry
    clock: HandClock
    made: list[ScoringImages] = field(default_factory=list)

    def images(self) -> ScoringImages:
        """Make one that saw nothing yet, as another instance of the function app would."""
        options = ImageOptions(
            subscription=SUBSCRIPTION, resource_group=GROUP, registry=REGISTRY, client=self.arm.client_options
        )
        self.made.append(ScoringImages(options, object(), self.clock))  # type: ignore[arg-type]  # see PlainToken
        return self.made[-1]

    def finish(self, status: str = "Succeeded", **more: Any) -> None:
        self.registry.finish(status, at=self.clock.now(), **more)


@pytest.fixture
def bench() -> Iterator[ImageBench]:
    arm = ArmDouble()
    registry = Registry(arm)
    arm.parts.append(registry.answer)
    arm.open_parts.append(registry.upload_or_log)
    arm.start()
    bench = ImageBench(arm, registry, HandClock())
    yield bench
    for images in bench.made:
        images.close()
    arm.stop()
    assert not arm.complaints, arm.complaints


def test_an_image_is_built_once_and_then_ready(bench: ImageBench) -> None:
    states = [bench.images().ensure(ENVIRONMENT).state for _ in range(3)]
    bench.finish()
    ready = bench.images().ensure(ENVIRONMENT)
    assert [*states, ready.state] == ["building", "building", "building", "ready"]
    assert bench.registry.builds == 1
    assert ready.image.removeprefix(f"{REGISTRY}.azurecr.io/") in bench.registry.images


def test_a_version_with_the_same_packages_builds_and_asks_nothing(bench: ImageBench) -> None:
    images = bench.images()
    images.ensure(ENVIRONMENT)
    bench.finish()
    first = images.ensure(ENVIRONMENT)
    asked = len(bench.arm.calls)
    renamed = EnvironmentSpec(name="model diabetes:2", conda={**CONDA, "name": "another"})
    assert images.ensure(renamed) == first
    assert len(bench.arm.calls) == asked


def test_other_packages_are_another_image(bench: ImageBench) -> None:
    other = EnvironmentSpec(name="e", pip_requirements=("pandas==2.2.2",), python_version="3.12")
    assert bench.images().ensure(ENVIRONMENT).image != bench.images().ensure(other).image
    assert bench.registry.builds == 2


def test_the_context_holds_the_environment_and_the_scoring_app_alone(bench: ImageBench) -> None:
    bench.images().ensure(ENVIRONMENT)
    files = bench.registry.context()
    conda = yaml.safe_load(files["environment.yml"])
    assert conda["dependencies"] == CONDA["dependencies"]
    assert "name" not in conda
    assert "mlops_core/serving/fetch.py" in files
    own = {path.split("/")[0] for path in files}
    assert own == {"Dockerfile", "environment.yml", "serving.txt", "mlops_core"}
    assert all(path.startswith(("mlops_core/serving/", "mlops_core/__init__")) for path in files if "/" in path)
    assert "USER scoring" in files["Dockerfile"]


def test_a_failed_build_tells_why_with_its_log(bench: ImageBench) -> None:
    bench.images().ensure(ENVIRONMENT)
    bench.finish(
        "Failed",
        error="failed to run step ID: build",
        log="a step\n" * 20_000 + "ERROR: No matching distribution found for pandas",
    )
    failed = bench.images().ensure(ENVIRONMENT)
    assert failed.state == "failed"
    assert "failed to run step" in failed.reason
    assert "No matching distribution" in failed.log_tail


def test_a_failed_build_is_repeated_for_whoever_asks_later(bench: ImageBench) -> None:
    bench.images().ensure(ENVIRONMENT)
    bench.finish("Timeout")
    assert bench.images().ensure(ENVIRONMENT).state == "failed"
    bench.clock.move(minutes=6)
    assert bench.images().ensure(ENVIRONMENT).state == "building"
    bench.finish()
    assert bench.images().ensure(ENVIRONMENT).state == "ready"


@pytest.mark.parametrize("status", ["Queued", "Started", "Running", "SomethingNew"])
def test_what_is_not_known_to_have_ended_is_under_way(bench: ImageBench, status: str) -> None:
    bench.images().ensure(ENVIRONMENT)
    for run in bench.registry.runs.values():
        run.status = status
    assert bench.images().ensure(ENVIRONMENT).state == "building"


def test_a_reply_that_is_cut_leaves_one_build(bench: ImageBench) -> None:
    bench.arm.faults = [Fault(method="PUT", path="taskRuns", after=True, cut=True)]
    with pytest.raises(TemporaryError):
        bench.images().ensure(ENVIRONMENT)
    bench.images().ensure(ENVIRONMENT)
    assert bench.registry.builds == 1


def test_sources_that_are_not_taken_are_sent_again_and_no_signature_is_told(
    bench: ImageBench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    bench.arm.faults = [Fault(503, "PUT", "/storage/")]
    with pytest.raises(TemporaryError, match="503") as caught:
        bench.images().ensure(ENVIRONMENT)
    assert "marked" not in f"{caught.value} {caplog.text}"
    assert bench.images().ensure(ENVIRONMENT).state == "building"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (EnvironmentSpec(name="current", current=True), "no container has"),
        (EnvironmentSpec(name="e", pip_requirements=("-r more.txt",)), "a file of the repository"),
        (EnvironmentSpec(name="e", conda={"dependencies": [{"pip": ["./own.whl"]}]}), "a file of the repository"),
    ],
)
def test_an_environment_without_an_image_is_refused(environment: EnvironmentSpec, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        make_context(environment)


def test_a_context_is_the_same_bytes_each_time() -> None:
    assert make_context(ENVIRONMENT) == make_context(EnvironmentSpec(name="other", conda=dict(reversed(CONDA.items()))))
