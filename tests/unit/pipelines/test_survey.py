"""What becomes of every pipeline of a folder."""

from typing import Any

import pytest

from mlops_core.pipelines.survey import main, pipeline_jobs, survey, to_markdown

SPARK = "type: pipeline\njobs:\n  a: {type: spark}\n  b: {type: spark}\n"


def test_components_and_other_yaml_are_no_pipeline_jobs(project: Any) -> None:
    project.write("part.yml", "$schema: x/pipelineComponent.schema.json\ntype: pipeline\nname: part\njobs: {}\n")
    project.write("old.yml", "$schema: http://azureml/sdk-2-0/PipelineJob.json\njobs: {}\n")
    project.write("deployment.yml", "$schema: x/pipelineComponentBatchDeployment.schema.json\ntype: pipeline\n")
    assert [path.name for path in pipeline_jobs(project.root)] == ["old.yml", "pipeline.yml"]


@pytest.mark.slow  # imports azure-ai-ml
def test_each_pipeline_runs_or_has_its_reasons(project: Any) -> None:
    project.write("big/spark.yml", SPARK)
    project.write("odd.yml", "type: pipeline\njobs:\n  a: {comand: x}\n")
    found = {entry.path: entry for entry in survey(project.root)}
    assert {path: entry.outcome for path, entry in found.items()} == {
        "big/spark.yml": "refused",
        "odd.yml": "invalid",
        "pipeline.yml": "runs",
    }
    assert found["big/spark.yml"].detail == ("a, b: it is a spark step, and there is no Spark here",)
    assert found["pipeline.yml"].detail == ("prepare", "train")


def test_no_place_of_one_machine_is_in_the_table(project: Any, capsys: pytest.CaptureFixture[str]) -> None:
    beside = project.root.parent
    (beside / "part.yml").write_text("type: command\nnested: [\n")
    project.write(
        "pipeline.yml",
        """
        type: pipeline
        jobs:
          a: {type: command, component: ../part.yml}
          b: {type: command, component: ../absent.yml}
          c: {type: command, command: x, code: ../src, environment: ../conda.yml}
          d:
            type: command
            command: "echo ${{inputs.x}}"
            environment: {conda_file: ../conda.yml, image: x}
            inputs: {x: {type: uri_file, path: ../data/x.csv}}
        """,
    )
    assert main([str(project.root)]) == 0
    out = capsys.readouterr().out
    assert "(../data/x.csv)" in out
    assert "(../src)" in out
    assert str(beside) not in out


def test_the_table_has_a_row_per_pipeline(project: Any, capsys: pytest.CaptureFixture[str]) -> None:
    project.write("pipeline.yml", SPARK)
    assert main([str(project.root)]) == 0
    out = capsys.readouterr().out
    assert out == to_markdown(survey(project.root))
    assert "1 pipelines: 0 run, 1 are refused" in out
    assert "| `pipeline.yml` | refused | a, b: it is a spark step" in out
