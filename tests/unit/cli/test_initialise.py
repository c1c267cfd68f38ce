"""`headrace init` finds what `mlops.yaml` has to point at, and what it writes can be read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from commands import Headrace

from mlops_core.cli.initialise import render
from mlops_core.cli.inspection import Findings, inspect
from mlops_core.manifest import read_manifest

ROOT = Path(__file__).parents[3]
PIPELINE = {
    "$schema": "https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json",
    "type": "pipeline",
    "jobs": {
        "train": {
            "command": "python train.py",
            "environment": "azureml:tides-env@latest",
            "inputs": {"table": {"type": "uri_file", "path": "azureml:tide-data@latest"}},
        }
    },
}
SCRIPT = "def init():\n    ...\n\ndef run(data):\n    return data\n"


def write(root: Path, **files: object) -> Path:
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return root


def test_the_example_is_found_as_its_own_declaration_says(tmp_path: Path) -> None:
    project = shutil.copytree(
        ROOT / "examples" / "diabetes",
        tmp_path / "diabetes",
        ignore=shutil.ignore_patterns("mlops.yaml", "__pycache__"),
    )
    own = read_manifest((ROOT / "examples" / "diabetes" / "mlops.yaml").read_bytes())

    written = read_manifest(render("diabetes", inspect(project)).encode())

    assert written.project == own.project
    assert (written.train.pipeline, written.train.model) == (own.train.pipeline, own.train.model)
    assert written.build.test == own.build.test
    assert "azureml/environment.yml" in written.build.assets


def test_the_pipeline_with_the_most_steps_comes_first(tmp_path: Path) -> None:
    large = {**PIPELINE, "jobs": dict.fromkeys(("a", "b"), PIPELINE["jobs"]["train"])}  # type: ignore[index] - a mapping
    found = inspect(write(tmp_path, a_dot_yml=PIPELINE, z_dot_yml=large))

    assert found.pipelines == ["z.yml", "a.yml"]


def test_a_data_asset_is_bound_to_the_file_of_its_name_or_listed_as_missing(tmp_path: Path) -> None:
    assert inspect(write(tmp_path, p_dot_yml=PIPELINE)).unbound == ["azureml:tide-data@latest"]

    write(tmp_path, data__tide_data_dot_csv="a,b\n1,2\n")

    assert inspect(tmp_path).bindings == {"azureml:tide-data@latest": "data/tide_data.csv"}


@pytest.mark.parametrize(
    "code",
    [
        'mlflow.register_model(f"runs:/{run}/model", "tides")',
        "mlflow.sklearn.log_model(model, 'model', registered_model_name='tides')",
        'mlflow.register_model(uri, name="tides")',
        'mlflow.register_model(f"runs:/{mlflow.active_run().info.run_id}/model", "tides")',
    ],
)
def test_the_registered_name_is_read_from_the_code(tmp_path: Path, code: str) -> None:
    assert inspect(write(tmp_path, src__train_dot_py=f"{code}\n")).models == ["tides"]


def test_a_scoring_script_is_found_unless_the_model_is_one_of_mlflow(tmp_path: Path) -> None:
    assert inspect(write(tmp_path, src__score_dot_py=SCRIPT)).scoring_script == "src/score.py"

    write(tmp_path, src__train_dot_py="mlflow.sklearn.log_model(model)\n")

    assert inspect(tmp_path).scoring_script is None


def test_files_that_are_not_what_their_name_says_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, bad_dot_yml="a: [", list_dot_yml="[1]", bad_dot_json="{", request_dot_json='{"input_data": []}')
    (tmp_path / "latin.yml").write_bytes(b"a: \xe9\n")
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")

    assert inspect(tmp_path).requests == ["request.json"]


def test_what_was_not_found_is_left_to_the_person_with_a_comment() -> None:
    text = render("My Tides!", Findings(pipelines=["p.yml", "q.yml"], unbound=["azureml:x@latest"]))

    spec = read_manifest(text.encode())
    assert (spec.project, spec.train.model, spec.build.test) == ("my-tides", "change-me", None)
    for comment in (
        "# also found: q.yml",
        "# no registration was found",
        "#   test: pytest -q",
        '#   "azureml:x@latest"',
    ):
        assert comment in text, comment


def test_init_writes_a_file_that_validate_takes(headrace: Headrace, tmp_path: Path) -> None:
    command = {**PIPELINE["jobs"]["train"], "environment": {"image": "python"}, "type": "command"}  # type: ignore[index,dict-item] - a mapping
    del command["inputs"]
    project = write(
        tmp_path / "tides",
        p_dot_yml={**PIPELINE, "jobs": {"train": command}},
        r_dot_json=json.dumps({"input_data": []}),
    )

    done = headrace("init", str(project))

    assert done.exit_code == 0, done.stderr
    assert read_manifest((project / "mlops.yaml").read_bytes()).train.pipeline == "p.yml"
    assert "Edit it and check it with 'headrace validate', or give --force." in headrace("init", str(project)).stderr
    assert headrace("init", "--force", str(project)).exit_code == 0


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [("nowhere", "is no folder. Give the repository's folder."), (".", "There is no Azure ML v2 pipeline in")],
)
def test_init_of_what_is_no_project_says_what_to_do(
    headrace: Headrace, tmp_path: Path, folder: str, sentence: str
) -> None:
    done = headrace("init", str(tmp_path / folder))

    assert (done.exit_code, sentence in done.stderr) == (1, True), done.stderr


def test_a_pipeline_that_is_a_part_of_another_is_not_the_one_that_trains(tmp_path: Path) -> None:
    part = {"type": "pipeline", "jobs": dict.fromkeys(("a", "b"), PIPELINE["jobs"]["train"])}  # type: ignore[index] - a mapping
    declared = {**part, "$schema": "https://azuremlschemas.azureedge.net/latest/pipelineComponent.schema.json"}
    whole = {"type": "pipeline", "jobs": {"all": {"type": "pipeline", "component": "./parts/train.yml"}}}

    found = inspect(write(tmp_path, parts__train_dot_yml=part, parts__other_dot_yml=declared, pipeline_dot_yml=whole))

    assert found.pipelines == ["pipeline.yml"]


def test_a_script_of_a_parallel_step_is_no_scoring_script(tmp_path: Path) -> None:
    step = {"type": "parallel", "task": {"type": "run_function", "entry_script": "predict.py"}}
    write(tmp_path, pipeline_dot_yml={**PIPELINE, "jobs": {"predict": step}}, src__predict_dot_py=SCRIPT)

    assert inspect(tmp_path).scoring_script is None


def test_model_outputs_without_a_name_are_proposed_where_no_registration_was_found(tmp_path: Path) -> None:
    job = {**PIPELINE["jobs"]["train"], "outputs": {"model": {"type": "mlflow_model"}}}  # type: ignore[index,dict-item] - a mapping

    text = render("tides", inspect(write(tmp_path, p_dot_yml={**PIPELINE, "jobs": {"train": job}})))

    assert "# jobs.train.outputs.model is a model: with 'name: NAME' there it is registered" in text


def test_the_branch_of_the_repository_is_the_one_that_delivers() -> None:
    text = render("tides", Findings(pipelines=["p.yml"], branch="release/2.0"))

    assert read_manifest(text.encode()).triggers.branches == ("release/2.0",)


def test_init_says_what_is_left_to_fill_in(headrace: Headrace, tmp_path: Path) -> None:
    project = write(tmp_path / "tides", p_dot_yml=PIPELINE)

    done = headrace("init", str(project))

    assert done.exit_code == 0
    problems = " ".join(done.stderr.split())
    assert "train.model: 'change-me' stands for a name that is yet to be given" in problems
    assert "azureml:tide-data@latest" in problems
    assert f"left for you to fill in or mend; then: headrace validate {project}" in done.stdout


def test_metrics_that_the_code_logs_are_named_beside_the_gates(tmp_path: Path) -> None:
    code = 'mlflow.log_metric("test rmse", 1.0)\nmlflow.log_metric(\n    \'r2\', 1.0)\nlog_metric(f"{name}", 2)\n'

    text = render("tides", inspect(write(tmp_path, p_dot_yml=PIPELINE, src__evaluate_dot_py=code)))

    assert "  #   metrics in the code: test rmse, r2\n" in text
    assert read_manifest(text.encode()).release.gates == ()
