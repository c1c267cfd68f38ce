"""What people ask for: retrain, approve, reject, waive, cancel, roll back, replay. Each is recorded with its name."""

from __future__ import annotations

import re
import uuid
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError

from handlers.answers import Answer, Request, json_answer, read_json
from mlops_core.application import Application
from mlops_core.domain.errors import BadInputError
from mlops_core.domain.ids import CommitId, ModelName, ModelVersion, ProjectName, RunId
from mlops_core.domain.requests import Decision
from mlops_core.services.intake import Retrain
from mlops_core.services.queries import summary

# Set by Azure's own sign-in, and removed by it from requests that did not sign in.
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PRINCIPAL_HEADER = "x-ms-client-principal-name"


def take_retrain(app: Application, request: Request) -> Answer:
    """Start a new training of a project. The same `request_id` again is the same run."""
    data = read_json(request)
    known = {"request_id", "by", "reason", "rebuild", "reuse", "commit", "resume"}
    _refuse_unknown(data, known)
    commit, resume = _text(data, "commit"), _text(data, "resume")
    if commit and not _COMMIT.fullmatch(commit):
        raise BadInputError(f"'commit' is '{commit[:80]}'; it must be a whole id of 40 or 64 hexadecimal digits.")
    wish = Retrain(
        project=ProjectName(request.params["project"]),
        request_id=_text(data, "request_id") or uuid.uuid4().hex,
        by=_person(request, data),
        reason=_text(data, "reason"),
        rebuild=_flag(data, "rebuild", default=True),
        reuse=_flag(data, "reuse", default=False),
        commit=CommitId(commit) if commit else None,
        resume_from=RunId(resume) if resume else None,
    )
    return _run_answer(app, app.intake.retrain(wish))


def take_decision(app: Application, request: Request) -> Answer:
    """Approve, reject, waive or cancel a run. Raises RefusedError where the run's state does not permit it."""
    data = read_json(request)
    _refuse_unknown(data, {"by", "reason"})
    if not request.headers.get(_PRINCIPAL_HEADER) and not _text(data, "by"):
        raise BadInputError('A decision is recorded with a name. Say who decides: {"by": "..."}.')
    try:
        decision = Decision.model_validate(
            {"wish": request.params["wish"], "by": _person(request, data), "reason": _text(data, "reason")}
        )
    except ValidationError as error:
        raise BadInputError(f"The decision is not understood: {error.errors(include_url=False)[0]['msg']}.") from None
    run = app.controller.decide(RunId(request.params["run_id"]), decision)
    return json_answer(summary(run), HTTPStatus.ACCEPTED)


def take_rollback(app: Application, request: Request) -> Answer:
    """Bring the version before the champion back, or the named one. The same `request_id` again is the same rollback."""
    data = read_json(request)
    _refuse_unknown(data, {"request_id", "by", "reason", "version"})
    version = _text(data, "version")
    run_id = app.intake.rollback(
        ModelName(request.params["model"]),
        request_id=_text(data, "request_id") or uuid.uuid4().hex,
        by=_person(request, data),
        reason=_text(data, "reason"),
        version=ModelVersion(version) if version else None,
    )
    return _run_answer(app, run_id)


def _run_answer(app: Application, run_id: RunId) -> Answer:
    return json_answer(summary(app.world.runs.load(run_id).value), HTTPStatus.ACCEPTED)


def _person(request: Request, data: dict[str, Any]) -> str:
    signed_in = request.headers.get(_PRINCIPAL_HEADER)
    return (signed_in or _text(data, "by") or "unnamed")[:200]


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key, "")
    if not isinstance(value, str):
        raise BadInputError(f"'{key}' must be text, not '{value}'.")
    return value


def _flag(data: dict[str, Any], key: str, *, default: bool) -> bool:
    value = data.get(key, default)
    if not isinstance(value, bool):
        raise BadInputError(f"'{key}' must be true or false, not '{value}'.")
    return value


def _refuse_unknown(data: dict[str, Any], known: set[str]) -> None:
    unknown = sorted(set(data) - known)
    if unknown:
        raise BadInputError(f"Unknown key '{unknown[0]}'. Known keys: {', '.join(sorted(known))}.")
