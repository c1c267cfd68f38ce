"""Data that a step registers by name is there for later pipelines, as in a workspace."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_core.domain.errors import BadInputError
from mlops_core.pipelines.data_assets import DataAssets
from mlops_core.pipelines.runner import PipelineRun
from mlops_core.pipelines.step_process import StepProcesses

WRITES = """
type: pipeline
inputs: {height: 3}
outputs: {tides: {type: uri_folder, name: tides}}
jobs:
  measure:
    command: echo ${{inputs.height}} > ${{outputs.found}}/may.csv && echo x > ${{outputs.one}}
    environment: {image: python}
    inputs: {height: "${{parent.inputs.height}}"}
    outputs:
      found: ${{parent.outputs.tides}}
      one: {type: uri_file, name: single, version: 7, path: azureml://datastores/x/paths/single.csv}
"""
READS = """
type: pipeline
jobs:
  look:
    command: cat ${{inputs.tides}}/may.csv ${{inputs.one}} > ${{outputs.seen}}
    environment: {image: python}
    inputs:
      tides: {type: uri_folder, path: "azureml:tides@latest"}
      one: {type: uri_file, path: "azureml:single:7"}
    outputs: {seen: {type: uri_file}}
"""


@pytest.fixture
def assets(tmp_path: Path) -> DataAssets:
    return DataAssets(tmp_path / "assets")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def content(text: str) -> Path:
        path = tmp_path / "content"
        path.mkdir(exist_ok=True)
        (path / "a.csv").unlink(missing_ok=True)
        (path / "a.csv").write_text(text)
        return path

    return content


def test_versions_count_up_and_the_same_content_is_the_same_version(
    assets: DataAssets, write: Callable[[str], Path]
) -> None:
    given = [assets.register("tides", "uri_folder", write(text)) for text in ("1", "2", "2", "1")]

    assert given == ["1", "2", "2", "3"]
    assert [path.parent.name for path in assets.declared()] == ["1", "2", "3"]
    assert (assets.folder / "tides" / "1" / "content" / "a.csv").read_text() == "1"


def test_a_declared_version_is_kept_and_never_overwritten(assets: DataAssets, write: Callable[[str], Path]) -> None:
    given = [assets.register("tides", "uri_folder", write("1"), version="2026-05") for _ in range(2)]

    assert given == ["2026-05", "2026-05"]
    with pytest.raises(BadInputError, match="has a version 2026-05 with other content"):
        assets.register("tides", "uri_folder", write("2"), version="2026-05")


@pytest.mark.parametrize("name", ["../tides", "", ".tides", "a/b"])
def test_a_name_never_leaves_the_folder(assets: DataAssets, write: Callable[[str], Path], name: str) -> None:
    with pytest.raises(BadInputError, match="is no name of a data asset"):
        assets.register(name, "uri_folder", write("1"))


def test_an_output_that_was_not_written_is_no_asset(assets: DataAssets, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="was not written"):
        assets.register("tides", "uri_file", tmp_path / "absent.csv")


def test_jobs_that_register_at_the_same_time_get_a_version_each(assets: DataAssets, tmp_path: Path) -> None:
    given: list[str] = []

    def register(number: int) -> None:
        file = tmp_path / f"{number}.csv"
        file.write_text(str(number))
        given.append(assets.register("tides", "uri_file", file))

    threads = [threading.Thread(target=register, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(given) == [str(number) for number in range(1, 9)]


@pytest.mark.slow  # imports azure-ai-ml
def test_a_later_pipeline_reads_the_latest_version(tmp_path: Path) -> None:
    for name, text in (("writes.yml", WRITES), ("reads.yml", READS)):
        (tmp_path / name).write_text(text)
    told: list[str] = []

    def run(file: str, **inputs: int) -> Path:
        job = PipelineRun(
            file=tmp_path / file,
            project_root=tmp_path,
            folder=tmp_path / f"{file}-{len(told)}",
            caches=tmp_path / "caches",
            assets=tmp_path / "assets",
            job_name="job",
            inherited=dict(os.environ),  # noqa: TID251 - of the test
            inputs=inputs,
        )
        job = replace(job, processes=StepProcesses())
        result = job.execute(job.plan(), lambda _kind, text: told.append(text))
        assert result.outcome == "succeeded", result.reason
        return Path(next(iter(result.steps.values())).outputs.get("seen", ""))

    run("writes.yml")
    first = run("reads.yml").read_text()
    run("writes.yml", height=4)
    second = run("reads.yml").read_text()

    assert (first, second) == ("3\nx\n", "4\nx\n")
    assert [text for text in told if "registered" in text] == [
        "measure: registered tides version 1",
        "measure: registered single version 7",
        "measure: registered tides version 2",
        "measure: registered single version 7",
    ]
