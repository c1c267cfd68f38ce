"""The judge of the doubles: what Azure's published specifications do not allow is named, at any depth."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from aml_double import SPECIFICATIONS, AzureMlDouble, specification
from container_bench import SPECIFICATION
from specs import Specification, contract

GROUP = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerInstance/containerGroups/tiny-v1"
JOB = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/jobs/tiny-0123-build"
CONTAINER_GROUP: dict[str, Any] = {
    "location": "westeurope",
    "properties": {
        "osType": "Linux",
        "containers": [
            {
                "name": "scoring",
                "properties": {
                    "image": "r.azurecr.io/scoring:1",
                    "resources": {"requests": {"cpu": 1.0, "memoryInGB": 1.5}},
                    "livenessProbe": {"httpGet": {"path": "/health/live", "port": 5001, "scheme": "http"}},
                },
            }
        ],
    },
}
COMMAND_JOB: dict[str, Any] = {
    "properties": {
        "jobType": "Command",
        "command": "pytest -q",
        "environmentId": "/environments/e/versions/1",
        "resources": {"instanceCount": 1},
        "limits": {"jobLimitsType": "Command", "timeout": "PT30M"},
    }
}


def changed(body: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """Set what is at a place such as `properties.containers.0.name`; None takes it away."""
    made = copy.deepcopy(body)
    found: Any = made
    *before, last = place.split(".")
    for part in before:
        found = found[int(part)] if isinstance(found, list) else found[part]
    if value is None:
        del found[last]
    else:
        found[last] = value
    return made


@pytest.fixture(scope="module")
def groups() -> Specification:
    return Specification(SPECIFICATION)


@pytest.fixture(scope="module")
def jobs() -> Specification:
    return Specification("aml-jobs-2024-10-01-preview.oas3.json")


def test_a_container_group_as_it_should_be_has_no_fault(groups: Specification) -> None:
    assert groups.faults_of_request("PUT", GROUP, {"api-version": "2023-05-01"}, CONTAINER_GROUP) == []


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("proprties", {}, "unknown key 'proprties'"),
        ("properties.restart", "Always", "unknown key 'properties.restart'"),
        ("properties.containers.0.properties.imageName", "x", "unknown key 'properties.containers[0].properties.imageName'"),
        ("properties.containers.0.properties.livenessProbe.httpGet.verb", "GET", "httpGet.verb'"),
        ("properties.containers.0.properties.resources.requests.cpus", 2, "requests.cpus'"),
        ("properties.containers.0.properties.resources.requests.cpu", "1", "cpu: '1' is not of type 'number'"),
        ("properties.containers.0.properties.image", None, "'image' is a required property"),
        ("properties.osType", "BeOS", "'BeOS' is not one of"),
    ],
)  # fmt: skip
def test_what_a_container_group_may_not_have_is_named(
    groups: Specification, place: str, value: Any, words: str
) -> None:
    faults = groups.faults_of_request(
        "PUT", GROUP, {"api-version": "2023-05-01"}, changed(CONTAINER_GROUP, place, value)
    )
    assert [fault for fault in faults if words in fault], faults


def test_a_command_job_as_it_should_be_has_no_fault(jobs: Specification) -> None:
    assert jobs.faults_of_request("PUT", JOB, {"api-version": "2025-01-01-preview"}, COMMAND_JOB) == []


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("properties.code", "./src", "unknown key 'properties.code'"),
        ("properties.limits.minutes", 3, "unknown key 'properties.limits.minutes'"),
        ("properties.resources.nodes", 1, "unknown key 'properties.resources.nodes'"),
        ("properties.jobType", "Shell", "Shell"),
        ("properties.command", None, "not valid under any of the given schemas"),
    ],
)
def test_what_a_command_job_may_not_have_is_named(jobs: Specification, place: str, value: Any, words: str) -> None:
    faults = jobs.faults_of_request(
        "PUT", JOB, {"api-version": "2025-01-01-preview"}, changed(COMMAND_JOB, place, value)
    )
    assert [fault for fault in faults if words in fault], faults


def test_queries_are_held_against_the_documents_too(groups: Specification) -> None:
    faults = groups.faults_of_request("GET", GROUP, {"api-verson": "2023-05-01"}, None)
    assert [fault.split(": ", 1)[1].partition(" (")[0] for fault in faults] == [
        "unknown query parameter 'api-verson'",
        "query parameter 'api-version' is missing",
    ]


def test_answers_of_the_double_are_held_against_the_documents_too(groups: Specification) -> None:
    answer = {"name": 7, **CONTAINER_GROUP}
    (fault,) = groups.faults_of_answer("GET", GROUP, 200, answer)
    assert "name: 7 is not of type 'string'" in fault
    (fault,) = groups.faults_of_answer("DELETE", GROUP, 302, None)
    assert "status 302 is not one that Azure answers" in fault


@pytest.mark.parametrize(
    ("method", "path", "version"),
    [
        ("PUT", JOB, "2031-01-01"),
        ("POST", f"{JOB}/pause", "2024-01-01-preview"),
        ("PUT", JOB.replace("/jobs/", "/computes/"), "2024-01-01-preview"),
        ("GET", JOB.replace("/jobs/", "/schedules/"), "2024-01-01-preview"),
    ],
)
def test_a_request_that_no_document_knows_is_a_complaint(method: str, path: str, version: str) -> None:
    contract(next(iter(SPECIFICATIONS.values())))
    double = AzureMlDouble.__new__(AzureMlDouble)  # only its judgement is asked for
    (complaint,) = double._check(method, path, {"api-version": version}, {})
    assert "no document knows it" in complaint


def test_each_document_that_the_double_names_is_read() -> None:
    for (part, version), name in SPECIFICATIONS.items():
        found = specification(part, version)
        assert found is not None, name
        assert any(f"/{part}/" in operation.template for operation in found.operations), name
