"""The published samples of Event Grid, in both schemas, through the classes that a Python trigger is given."""

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from azure.functions.eventgrid import EventGridEventInConverter
from azure.functions.meta import Datum
from builders import Bench

from handlers import azure_ml, dead_letters, events
from handlers.answers import Request
from handlers.azure_ml import JobStatusNotice, ModelRegisteredNotice, read_job_status, read_model_registered
from handlers.inbound import Envelope, read_envelope
from mlops_core.domain.errors import BadInputError, NotFoundError
from mlops_core.domain.events import JobOutcome
from mlops_core.domain.run import State

EVENTGRID = Path(__file__).parents[3] / "shared" / "contracts" / "eventgrid"
KIND = "Microsoft.MachineLearningServices."
WORKSPACE = (
    "/subscriptions/{subscription-id}/resourceGroups/{resource-group-name}/providers/"
    "Microsoft.MachineLearningServices/workspaces/{workspace-name}"
)
RUN = "AutoML_ad912b2d-6467-4f32-a616-dbe4af6dd8fc_5"
MODEL = ModelRegisteredNotice("sklearn_regression_model", "20")
# What each sample says; None for what says nothing about a run.
SAID: dict[str, tuple[str, str, object]] = {
    "model_registered": ("ModelRegistered", "models/sklearn_regression_model:20", MODEL),
    "model_deployed": ("ModelDeployed", "endpoints/my-sklearn-service", None),
    "run_completed": ("RunCompleted", f"experiments/0fa9dfaa-cba3-4fa7-b590-23e48548f5c1/runs/{RUN}",
                      JobStatusNotice(RUN, "succeeded")),
    "run_status_changed": ("RunStatusChanged", f"experiments/0fa9dfaa-cba3-4fa7-b590-23e48548f5c1/runs/{RUN}",
                           JobStatusNotice(RUN, "failed")),
    "dataset_drift_detected": ("DatasetDriftDetected", "datadrifts/{}/runs/{}", None),
}  # fmt: skip
FILES = {
    **{f"examples/{schema}-schema/{name}.json": name for schema in ("event-grid", "cloud-events") for name in SAID},
    **{f"delivery/{schema}.{name}.json": name for schema in ("eventgrid", "cloudevents") for name in SAID},
    "delivery/deadletter.eventgrid.derived.json": "model_registered",
}
# These are answered by the Functions extension and never reach a trigger.
HANDSHAKES = {"delivery/subscription_validation.request.json", "delivery/subscription_validation.response.json"}
STATUSES: dict[str, JobOutcome | None] = {
    "Completed": "succeeded", "completed": "succeeded", "Finished": "succeeded",
    "Failed": "failed", "failed": "failed", "NotResponding": "failed", "not_responding": "failed",
    "Canceled": "cancelled", "Cancelled": "cancelled",
    "Running": None, "Queued": None, "Cancel Requested": None, "CancelRequested": None, "Finalizing": None,
}  # fmt: skip
READERS = {
    "ModelRegistered": read_model_registered,
    "RunCompleted": read_job_status,
    "RunStatusChanged": read_job_status,
}
needs_samples = pytest.mark.skipif(not EVENTGRID.is_dir(), reason=f"the published samples are not at {EVENTGRID}")


def sample(file: str) -> dict[str, Any]:
    """Read one event; a delivery in Event Grid's schema is an array of one."""
    data = json.loads((EVENTGRID / file).read_text(encoding="utf-8"))
    event: dict[str, Any] = data[0] if isinstance(data, list) else data
    return event


def triggered(event: dict[str, Any]) -> object:
    """Make of an event what the Python worker hands to a function."""
    return EventGridEventInConverter.decode(Datum(json.dumps(event), "json"), trigger_metadata=None)


def notice_of(envelope: Envelope) -> object:
    reader = READERS.get(envelope.kind.removeprefix(KIND))
    return reader(envelope) if reader else None


@needs_samples
def test_every_published_sample_is_in_the_table() -> None:
    found = {
        str(path.relative_to(EVENTGRID))
        for folder in ("examples", "delivery")
        for path in (EVENTGRID / folder).rglob("*.json")
    }
    assert found == set(FILES) | HANDSHAKES


@needs_samples
@pytest.mark.parametrize("file", FILES)
def test_a_sample_gives_its_notice_through_the_triggers_class_and_as_json(file: str) -> None:
    kind, subject, said = SAID[FILES[file]]
    for event in (triggered(sample(file)), sample(file)):
        envelope = read_envelope(event)
        assert (envelope.kind, envelope.subject, envelope.source) == (KIND + kind, subject, WORKSPACE)
        assert envelope.id == "831e1650-001e-001b-66ab-eeb76e069631"
        assert envelope.time.isoformat() == "2017-06-26T18:41:00.958410+00:00"
        assert notice_of(envelope) == said


@needs_samples
@pytest.mark.parametrize("name", [name for name in SAID if name != "dataset_drift_detected"])
def test_both_schemas_give_the_same_envelope(name: str) -> None:
    files = [file for file, of in FILES.items() if of == name and "deadletter" not in file]
    envelopes = [read_envelope(triggered(sample(file))) for file in files]
    assert len(envelopes) == 4
    assert all(envelope == envelopes[0] for envelope in envelopes)


@needs_samples
@pytest.mark.parametrize("file", FILES)
def test_an_envelope_survives_being_kept_as_json(file: str) -> None:
    envelope = read_envelope(triggered(sample(file)))
    assert read_envelope(json.loads(json.dumps(envelope.raw))) == envelope


@needs_samples
@pytest.mark.parametrize(
    "spelling", [str.lower, str.upper, lambda key: key[0].lower() + key[1:], lambda key: key.replace("M", "_m")]
)
@pytest.mark.parametrize("version", [20, "20"])
def test_keys_and_versions_are_read_in_every_spelling(spelling: Any, version: object) -> None:
    event = sample("delivery/eventgrid.model_registered.json")
    event["data"] = {spelling(key): value for key, value in (event["data"] | {"ModelVersion": version}).items()}
    assert notice_of(read_envelope(triggered(event))) == MODEL


@needs_samples
@pytest.mark.parametrize("status", STATUSES)
def test_statuses_are_read_in_every_spelling(status: str) -> None:
    event = sample("delivery/cloudevents.run_status_changed.json")
    event["data"]["runStatus"] = status
    assert notice_of(read_envelope(triggered(event))) == JobStatusNotice(RUN, STATUSES[status])


@needs_samples
def test_an_unknown_status_counts_as_under_way_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    event = sample("delivery/eventgrid.run_status_changed.json")
    event["data"]["runStatus"] = "Hibernating"
    with caplog.at_level(logging.WARNING, logger=azure_ml.log.name):
        assert notice_of(read_envelope(triggered(event))) == JobStatusNotice(RUN, None)
    assert [getattr(record, "status", None) for record in caplog.records] == ["Hibernating"]


@needs_samples
@pytest.mark.parametrize("schema", ["eventgrid", "cloudevents"])
@pytest.mark.parametrize(
    ("name", "missing"),
    [("model_registered", "ModelName"), ("model_registered", "ModelVersion"), ("run_completed", "runId"),
     ("run_status_changed", "runId"), ("run_status_changed", "runStatus")],
)  # fmt: skip
@pytest.mark.parametrize("value", ["absent", None, True, [], {}, 1.5])
def test_a_missing_or_unusable_key_is_bad_input_and_named(schema: str, name: str, missing: str, value: object) -> None:
    event = sample(f"delivery/{schema}.{name}.json")
    event["data"][missing] = value
    if value == "absent":
        del event["data"][missing]
    with pytest.raises(BadInputError, match=f"(?i){missing}"):
        notice_of(read_envelope(triggered(event)))


@needs_samples
@pytest.mark.parametrize("name", ["", "x" * 300, "\ud800", "a\nb", "a\x00", 10**4000])
def test_a_name_that_cannot_be_one_is_bad_input(name: object) -> None:
    event = sample("delivery/eventgrid.model_registered.json")
    event["data"]["ModelName"] = name
    with pytest.raises(BadInputError, match="modelname"):
        notice_of(read_envelope(triggered(event)))


@needs_samples
@pytest.mark.parametrize("schema", ["eventgrid", "cloudevents"])
@pytest.mark.parametrize("keys", [("id",), ("type", "eventType"), ("time", "eventTime")])
def test_an_event_without_id_type_or_time_is_bad_input(schema: str, keys: tuple[str, ...]) -> None:
    event = sample(f"delivery/{schema}.model_registered.json")
    for key in keys:
        event.pop(key, None)
    for seen in (triggered(event), event):
        with pytest.raises(BadInputError, match="The event has no"):
            read_envelope(seen)


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:00", "yesterday", 5, None, ""])
def test_a_time_that_is_none_is_bad_input(time: object) -> None:
    event = {"id": "1", "type": "a", "time": time, "specversion": "1.0"}
    with pytest.raises(BadInputError, match="time"):
        read_envelope(event)


@pytest.mark.parametrize("data", [None, [], "text", 1])
def test_data_that_is_no_object_is_bad_input(data: object) -> None:
    event = {
        "id": "1",
        "eventType": KIND + "ModelRegistered",
        "eventTime": "2026-01-01T00:00:00Z",
        "subject": "s",
        "data": data,
    }
    with pytest.raises(BadInputError, match="modelname"):
        read_model_registered(read_envelope(event))


class TestTaking:
    """Events by the table of handlers, on an application."""

    @needs_samples
    @pytest.mark.parametrize("file", [file for file, name in FILES.items() if SAID[name][2] is None or "run_" in name])
    def test_events_of_others_pass_without_a_trace(self, bench: Bench, file: str) -> None:
        events.take_event(bench.app, read_envelope(triggered(sample(file))))
        assert bench.app.world.dead_letters.list(cursor=None, limit=10).items == []
        assert bench.app.world.runs.of_project(None).items == []

    @needs_samples
    @pytest.mark.parametrize("schema", ["eventgrid", "cloudevents"])
    def test_a_failed_job_of_ours_fails_its_run(self, bench: Bench, schema: str) -> None:
        run_id = bench.push()
        bench.drain()
        bench.end_job(run_id, "build")
        event = sample(f"delivery/{schema}.run_status_changed.json")
        event["data"] |= {"runId": f"{run_id}-train"}
        events.take_event(bench.app, read_envelope(triggered(event)))
        assert bench.run(run_id).state is State.FAILED

    @needs_samples
    def test_the_published_dead_letter_is_read_as_the_event_that_it_was(self) -> None:
        file = "delivery/deadletter.eventgrid.derived.json"
        assert notice_of(read_envelope(sample(file))) == MODEL

    @needs_samples
    @pytest.mark.parametrize("schema", ["eventgrid", "cloudevents"])
    def test_an_event_that_cannot_be_taken_is_kept_once_and_replayed_after_its_cause_is_mended(
        self, bench: Bench, schema: str
    ) -> None:
        event = sample(f"delivery/{schema}.model_registered.json")
        event["data"]["ModelVersion"] = 1
        envelope = read_envelope(triggered(event))
        for _ in range(2):
            events.take_event(bench.app, envelope)
        [letter] = json.loads(dead_letters.list_letters(bench.app, Request()).body)["dead_letters"]
        request = Request(params={"letter_id": letter["id"]})
        assert "sklearn_regression_model" in letter["reason"]

        with pytest.raises(BadInputError, match="does not have"):
            dead_letters.replay_letter(bench.app, request)
        bench.registry.register("sklearn_regression_model", "somebody-elses-job")
        assert dead_letters.replay_letter(bench.app, request).status == 200
        with pytest.raises(NotFoundError):
            dead_letters.show_letter(bench.app, request)

    def test_an_event_of_strange_letters_is_kept_too(self, bench: Bench) -> None:
        strange = "\ud800\x00é"
        event = {
            "id": strange,
            "type": strange,
            "time": "2026-01-01T00:00:00Z",
            "subject": strange,
            "data": {strange: strange},
        }
        events.take_event(bench.app, read_envelope(event))
        [letter] = json.loads(dead_letters.list_letters(bench.app, Request()).body)["dead_letters"]
        assert letter["subject"] == "?\x00é ?\x00é"

    @needs_samples
    def test_an_event_that_nobody_takes_is_kept_with_advice(self, bench: Bench) -> None:
        event = copy.deepcopy(sample("delivery/eventgrid.model_registered.json")) | {
            "eventType": "Microsoft.Storage.BlobCreated"
        }
        events.take_event(bench.app, read_envelope(triggered(event)))
        [letter] = json.loads(dead_letters.list_letters(bench.app, Request()).body)["dead_letters"]
        assert "Narrow the subscription" in letter["reason"]
