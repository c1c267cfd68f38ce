"""
The function app: one function per trigger, bindings only.

The Functions host runs this on Azure, `headrace up` runs the same registered functions on a laptop. Each function calls
one handler through one of the guards below, the only place where a broad `except` is allowed: a `TemporaryError` leaves
the function so that the host delivers again, a `PermanentError` is kept as a dead letter or answered to the caller.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import azure.functions as func

import handlers
from handlers import asking, dead_letters, effect_due, reconciling, scoring, steering, webhook
from handlers.answers import Answer, Request, error_answer, json_answer
from mlops_core.application import Application
from mlops_core.bootstrap import application
from mlops_core.domain.errors import HeadraceError

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
log = logging.getLogger("headrace")

EFFECT_QUEUE = "headrace-effects"
STORAGE = "HEADRACE_STORAGE"


def _request(req: func.HttpRequest) -> Request:
    headers = {name.lower(): value for name, value in req.headers.items()}
    return Request(body=req.get_body(), headers=headers, params=dict(req.route_params), query=dict(req.params))


def _response(answer: Answer) -> func.HttpResponse:
    return func.HttpResponse(answer.body, status_code=answer.status, headers=dict(answer.headers))


def _unforeseen(error: Exception) -> func.HttpResponse:
    log.error("unforeseen error", exc_info=error)
    sentence = "Something unforeseen happened; it is in the log of the function app. Repeat the request."
    return _response(json_answer({"error": sentence}, 500))


def _http(handler: Callable[[Application, Request], Answer], req: func.HttpRequest) -> func.HttpResponse:
    try:
        return _response(handler(application(), _request(req)))
    except HeadraceError as error:
        return _response(error_answer(error))
    except Exception as error:  # noqa: BLE001 - the one place: a bug must not become an answer that is never repeated
        return _unforeseen(error)


@app.route("webhooks/{host}", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
def take_webhook(req: func.HttpRequest) -> func.HttpResponse:
    """A repository host tells of a push; its signature is the key."""
    return _http(webhook.take_webhook, req)


@app.event_grid_trigger("event")
def take_git_push(event: func.EventGridEvent) -> None:
    """A `Headrace.GitPush` of the controller's own topic."""
    handlers.take_trigger(application(), event)


@app.event_grid_trigger("event")
def take_ml_event(event: func.EventGridEvent) -> None:
    """An event of the Azure ML workspace: a model was registered, a job changed."""
    handlers.take_trigger(application(), event)


@app.event_grid_trigger("event")
def take_deployment_event(event: func.EventGridEvent) -> None:
    """A deployment became ready, failed or went away."""
    handlers.take_trigger(application(), event)


@app.queue_trigger("message", queue_name=EFFECT_QUEUE, connection=STORAGE)
def take_effect(message: func.QueueMessage) -> None:
    """An effect is due."""
    text, tries = message.get_body().decode("utf-8", "replace"), message.dequeue_count or 1
    try:
        effect_due.take_message(application(), text, tries)
    except Exception as error:
        if not effect_due.give_up_on_last_try(application(), text, tries, error):
            raise


@app.timer_trigger(arg_name="timer", schedule="0 * * * * *", run_on_startup=True)
def reconcile(timer: func.TimerRequest) -> None:
    """Each minute: look after the active runs."""
    reconciling.reconcile_runs(application())


@app.timer_trigger(arg_name="timer", schedule="30 */5 * * * *", run_on_startup=True)
def reconcile_heads(timer: func.TimerRequest) -> None:
    """Every five minutes: look for pushes whose webhook was lost."""
    reconciling.reconcile_heads(application())


@app.route("models/{model}/score", methods=["POST"])
async def score(req: func.HttpRequest) -> func.HttpResponse:
    """The stable address of a model."""
    try:
        return _response(await scoring.score(application(), _request(req)))
    except HeadraceError as error:
        return _response(error_answer(error))
    except Exception as error:  # noqa: BLE001 - as in _http
        return _unforeseen(error)


@app.route("projects/{project}/retrain", methods=["POST"])
def retrain(req: func.HttpRequest) -> func.HttpResponse:
    """Train a project again."""
    return _http(steering.take_retrain, req)


@app.route("runs/{run_id}/decisions/{wish}", methods=["POST"])
def decide(req: func.HttpRequest) -> func.HttpResponse:
    """Approve, reject, waive or cancel a run."""
    return _http(steering.take_decision, req)


@app.route("models/{model}/rollback", methods=["POST"])
def rollback(req: func.HttpRequest) -> func.HttpResponse:
    """Bring the version before the champion back."""
    return _http(steering.take_rollback, req)


@app.route("projects", methods=["GET"])
def list_projects(req: func.HttpRequest) -> func.HttpResponse:
    """List the allowed repositories."""
    return _http(asking.list_projects, req)


@app.route("runs", methods=["GET"])
def list_runs(req: func.HttpRequest) -> func.HttpResponse:
    """List runs, newest first."""
    return _http(asking.list_runs, req)


@app.route("runs/{run_id}", methods=["GET"])
def show_run(req: func.HttpRequest) -> func.HttpResponse:
    """Tell a run's story."""
    return _http(asking.show_run, req)


@app.route("runs/{run_id}/progress", methods=["GET"])
def show_progress(req: func.HttpRequest) -> func.HttpResponse:
    """Tell what is new about a run."""
    return _http(asking.show_progress, req)


@app.route("runs/{run_id}/logs/{stage}", methods=["GET"])
def show_log(req: func.HttpRequest) -> func.HttpResponse:
    """Give the log of a run's build or train job."""
    return _http(asking.show_log, req)


@app.route("models", methods=["GET"])
def list_models(req: func.HttpRequest) -> func.HttpResponse:
    """List the models in service."""
    return _http(asking.list_models, req)


@app.route("models/{model}", methods=["GET"])
def show_model(req: func.HttpRequest) -> func.HttpResponse:
    """Tell who serves a model, and who did."""
    return _http(asking.show_model, req)


@app.route("models/{model}/versions", methods=["GET"])
def list_versions(req: func.HttpRequest) -> func.HttpResponse:
    """List the registered versions of a model."""
    return _http(asking.list_versions, req)


@app.route("dead-letters", methods=["GET"])
def list_dead_letters(req: func.HttpRequest) -> func.HttpResponse:
    """List what could not be taken."""
    return _http(dead_letters.list_letters, req)


@app.route("dead-letters/{letter_id}", methods=["GET"])
def show_dead_letter(req: func.HttpRequest) -> func.HttpResponse:
    """Tell a dead letter whole."""
    return _http(dead_letters.show_letter, req)


@app.route("dead-letters/{letter_id}/replay", methods=["POST"])
def replay_dead_letter(req: func.HttpRequest) -> func.HttpResponse:
    """Take a dead letter again."""
    return _http(dead_letters.replay_letter, req)


@app.route("health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def health(req: func.HttpRequest) -> func.HttpResponse:
    """Tell that the function app answers."""
    return _response(json_answer({"status": "up"}))
