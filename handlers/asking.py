"""The read-only queries over HTTP."""

from __future__ import annotations

from handlers.answers import Answer, Request, json_answer
from mlops_core.application import Application
from mlops_core.domain.errors import BadInputError
from mlops_core.domain.ids import ModelName, RunId

_LARGEST_PAGE = 200


def list_projects(app: Application, _: Request) -> Answer:
    """List the allowed repositories."""
    return json_answer(app.queries.projects())


def list_runs(app: Application, request: Request) -> Answer:
    """List runs, newest first: `?project=`, `?limit=`, `?cursor=`."""
    return json_answer(app.queries.runs(request.query.get("project"), request.query.get("cursor"), _limit(request)))


def show_run(app: Application, request: Request) -> Answer:
    """Tell a run's whole story."""
    return json_answer(app.queries.run(RunId(request.params["run_id"])))


def show_progress(app: Application, request: Request) -> Answer:
    """Tell what is new about a run since the last look: `?after=` is `next` of the answer before."""
    return json_answer(app.queries.progress(RunId(request.params["run_id"]), request.query.get("after", "")))


def show_log(app: Application, request: Request) -> Answer:
    """
    Give the log of a run's build or train job, or the last lines that its deployed version printed (serve).

    Of a long log its end, and how many bytes were left out before it.
    """
    run_id, stage = RunId(request.params["run_id"]), request.params["stage"]
    if stage == "build":
        text, left_out = app.queries.log(run_id, "build")
    elif stage == "train":
        text, left_out = app.queries.log(run_id, "train")
    elif stage == "serve":
        text, left_out = app.queries.serving_log(run_id), 0
    else:
        raise BadInputError(f"There is no log of stage '{stage}'. Stages with a log: build, train, serve.")
    headers = {"content-type": "text/plain; charset=utf-8"}
    return Answer(200, text, {**headers, "x-headrace-left-out": str(left_out)} if left_out else headers)


def list_models(app: Application, _: Request) -> Answer:
    """List the models with what serves them."""
    return json_answer(app.queries.models())


def show_model(app: Application, request: Request) -> Answer:
    """Tell who serves a model, and who did."""
    return json_answer(app.queries.model(ModelName(request.params["model"])))


def list_deployments(app: Application, _: Request) -> Answer:
    """List the deployments, and which of them no model needs."""
    return json_answer(app.queries.deployments())


def list_versions(app: Application, request: Request) -> Answer:
    """List the registered versions of a model with their metrics."""
    return json_answer(app.queries.versions(ModelName(request.params["model"])))


def _limit(request: Request) -> int:
    text = request.query.get("limit", "50")
    if not text.isdecimal() or not 1 <= int(text) <= _LARGEST_PAGE:
        raise BadInputError(f"'limit' is '{text[:20]}'; it must be a number from 1 to {_LARGEST_PAGE}.")
    return int(text)
