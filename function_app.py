"""
The function app: one function per trigger, bindings only.

The Functions host runs this on Azure, `headrace up` runs the same registered functions on a laptop. Each function calls
one handler through one of the guards below, the only place where a broad `except` is allowed: a `TemporaryError` leaves
the function so that the host delivers again, a `PermanentError` is kept as a dead letter or answered to the caller.

A function imports its handler when it is called first: an instance that starts answers as soon as the host has read the
bindings, and one that only routes predictions never loads the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import azure.functions as func

if TYPE_CHECKING:
    from handlers.answers import Answer, Request
    from mlops_core.application import Application

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
log = logging.getLogger("headrace")

EFFECT_QUEUE = "headrace-effects"
STORAGE = "HEADRACE_STORAGE"


def _application() -> Application:
    from mlops_core.bootstrap import application

    return application()


def _request(req: func.HttpRequest) -> Request:
    from handlers.answers import Request

    headers = {name.lower(): value for name, value in req.headers.items()}
    return Request(body=req.get_body(), headers=headers, params=dict(req.route_params), query=dict(req.params))


def _response(answer: Answer) -> func.HttpResponse:
    return func.HttpResponse(answer.body, status_code=answer.status, headers=dict(answer.headers))


def _refusal(error: Exception) -> func.HttpResponse:
    """Answer with the error's own sentence; a bug must not become an answer that is never repeated."""
    from handlers.answers import error_answer, json_answer
    from mlops_core.domain.errors import HeadraceError

    if isinstance(error, HeadraceError):
        return _response(error_answer(error))
    log.error("unforeseen error", exc_info=error)
    sentence = "Something unforeseen happened; it is in the log of the function app. Repeat the request."
    return _response(json_answer({"error": sentence}, 500))


def _http(handler: Callable[[Application, Request], Answer], req: func.HttpRequest) -> func.HttpResponse:
    try:
        return _response(handler(_application(), _request(req)))
    except Exception as error:  # noqa: BLE001 - the one place where all errors become answers
        return _refusal(error)


@app.route("webhooks/{host}", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
def take_webhook(req: func.HttpRequest) -> func.HttpResponse:
    """A repository host tells of a push; its signature is the key."""
    from handlers import webhook

    return _http(webhook.take_webhook, req)


@app.event_grid_trigger("event")
def take_git_push(event: func.EventGridEvent) -> None:
    """A `Headrace.GitPush` of the controller's own topic."""
    from handlers.events import take_trigger

    take_trigger(_application(), event)


@app.event_grid_trigger("event")
def take_ml_event(event: func.EventGridEvent) -> None:
    """An event of the Azure ML workspace: a model was registered, a job changed."""
    from handlers.events import take_trigger

    take_trigger(_application(), event)


@app.event_grid_trigger("event")
def take_deployment_event(event: func.EventGridEvent) -> None:
    """A deployment became ready, failed or went away."""
    from handlers.events import take_trigger

    take_trigger(_application(), event)


@app.queue_trigger("message", queue_name=EFFECT_QUEUE, connection=STORAGE)
def take_effect(message: func.QueueMessage) -> None:
    """An effect is due."""
    from handlers import effect_due

    text, tries = message.get_body().decode("utf-8", "replace"), message.dequeue_count or 1
    try:
        effect_due.take_message(_application(), text, tries)
    except Exception as error:
        if not effect_due.give_up_on_last_try(_application(), text, tries, error):
            raise


@app.timer_trigger(arg_name="timer", schedule="0 * * * * *", run_on_startup=True)
def reconcile(timer: func.TimerRequest) -> None:
    """Each minute: look after the active runs."""
    from handlers import reconciling

    reconciling.reconcile_runs(_application())


@app.timer_trigger(arg_name="timer", schedule="30 */5 * * * *", run_on_startup=True)
def reconcile_heads(timer: func.TimerRequest) -> None:
    """Every five minutes: look for pushes whose webhook was lost."""
    from handlers import reconciling

    reconciling.reconcile_heads(_application())


@app.route("models/{model}/score", methods=["POST"])
async def score(req: func.HttpRequest) -> func.HttpResponse:
    """The stable address of a model."""
    try:
        from handlers import scoring

        return _response(await scoring.score(_application(), _request(req)))
    except Exception as error:  # noqa: BLE001 - as in _http
        return _refusal(error)


@app.route("projects/{project}/retrain", methods=["POST"])
def retrain(req: func.HttpRequest) -> func.HttpResponse:
    """Train a project again."""
    from handlers import steering

    return _http(steering.take_retrain, req)


@app.route("runs/{run_id}/decisions/{wish}", methods=["POST"])
def decide(req: func.HttpRequest) -> func.HttpResponse:
    """Approve, reject, waive or cancel a run."""
    from handlers import steering

    return _http(steering.take_decision, req)


@app.route("models/{model}/rollback", methods=["POST"])
def rollback(req: func.HttpRequest) -> func.HttpResponse:
    """Bring the version before the champion back."""
    from handlers import steering

    return _http(steering.take_rollback, req)


@app.route("projects", methods=["GET"])
def list_projects(req: func.HttpRequest) -> func.HttpResponse:
    """List the allowed repositories."""
    from handlers import asking

    return _http(asking.list_projects, req)


@app.route("runs", methods=["GET"])
def list_runs(req: func.HttpRequest) -> func.HttpResponse:
    """List runs, newest first."""
    from handlers import asking

    return _http(asking.list_runs, req)


@app.route("runs/{run_id}", methods=["GET"])
def show_run(req: func.HttpRequest) -> func.HttpResponse:
    """Tell a run's story."""
    from handlers import asking

    return _http(asking.show_run, req)


@app.route("runs/{run_id}/progress", methods=["GET"])
def show_progress(req: func.HttpRequest) -> func.HttpResponse:
    """Tell what is new about a run."""
    from handlers import asking

    return _http(asking.show_progress, req)


@app.route("runs/{run_id}/logs/{stage}", methods=["GET"])
def show_log(req: func.HttpRequest) -> func.HttpResponse:
    """Give the log of a run's build or train job."""
    from handlers import asking

    return _http(asking.show_log, req)


@app.route("deployments", methods=["GET"])
def list_deployments(req: func.HttpRequest) -> func.HttpResponse:
    """List the deployments, and which of them no model needs."""
    from handlers import asking

    return _http(asking.list_deployments, req)


@app.route("models", methods=["GET"])
def list_models(req: func.HttpRequest) -> func.HttpResponse:
    """List the models in service."""
    from handlers import asking

    return _http(asking.list_models, req)


@app.route("models/{model}", methods=["GET"])
def show_model(req: func.HttpRequest) -> func.HttpResponse:
    """Tell who serves a model, and who did."""
    from handlers import asking

    return _http(asking.show_model, req)


@app.route("models/{model}/versions", methods=["GET"])
def list_versions(req: func.HttpRequest) -> func.HttpResponse:
    """List the registered versions of a model."""
    from handlers import asking

    return _http(asking.list_versions, req)


@app.route("dead-letters", methods=["GET"])
def list_dead_letters(req: func.HttpRequest) -> func.HttpResponse:
    """List what could not be taken."""
    from handlers import dead_letters

    return _http(dead_letters.list_letters, req)


@app.route("dead-letters/{letter_id}", methods=["GET"])
def show_dead_letter(req: func.HttpRequest) -> func.HttpResponse:
    """Tell a dead letter whole."""
    from handlers import dead_letters

    return _http(dead_letters.show_letter, req)


@app.route("dead-letters/{letter_id}/replay", methods=["POST"])
def replay_dead_letter(req: func.HttpRequest) -> func.HttpResponse:
    """Take a dead letter again."""
    from handlers import dead_letters

    return _http(dead_letters.replay_letter, req)


@app.route("health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def health(req: func.HttpRequest) -> func.HttpResponse:
    """Tell that the function app answers."""
    from handlers.answers import json_answer

    return _response(json_answer({"status": "up"}))
