"""
Read the registered functions from a `FunctionApp`, and call one as the genuine worker would.

Arguments are made by the very converters of `azure.functions` that the worker uses, so a function gets the same types
with the same fields. A plain function runs in a thread, a coroutine function on the event loop.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import logging
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from azure.functions import FunctionApp, HttpRequest, eventgrid, queue, timer
from azure.functions.meta import Datum

from mlops_core.domain.errors import PermanentError

log = logging.getLogger(__name__)

_SERVED = ("httpTrigger", "eventGridTrigger", "queueTrigger", "timerTrigger")


@dataclass(frozen=True)
class Function:
    """
    One registered function.

    Attributes:
        trigger: The trigger binding as plain JSON values.
        parameter: Name of the parameter that takes the trigger's value.
    """

    name: str
    kind: str
    trigger: Mapping[str, Any]
    parameter: str
    call: Callable[..., Any]


class InvocationError(Exception):
    """A function raised; its error is the cause, and is in the log with the invocation's id."""

    def __init__(self, function: str, invocation_id: str) -> None:
        super().__init__(f"Function '{function}' raised in invocation {invocation_id}; the log has the trace.")
        self.function = function
        self.invocation_id = invocation_id


def read_functions(app: FunctionApp) -> list[Function]:
    """
    Read what an app registered.

    Raises: PermanentError: A function has a trigger or binding that this host does not serve; names both.
    """
    return [_read(function) for function in app.get_functions()]


def _read(function: Any) -> Function:
    trigger = {key: _plain(value) for key, value in function.get_trigger().get_dict_repr().items()}
    name = function.get_function_name()
    if trigger["type"] not in _SERVED:
        raise PermanentError(
            f"Function '{name}' has the trigger '{trigger['type']}', which the local host does not serve. "
            f"Served: {', '.join(_SERVED)}."
        )
    for binding in function.get_bindings():
        kind = binding.get_dict_repr()["type"]
        if kind not in (trigger["type"], "http"):
            raise PermanentError(f"Function '{name}' has the binding '{kind}', which the local host does not serve.")
    return Function(name, trigger["type"], trigger, trigger["name"], function.get_user_function())


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return getattr(value, "value", value)


class Invoker:
    """
    Calls functions.

    Args:
        threads: How many plain functions run at the same time.
    """

    def __init__(self, *, threads: int = 16) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="function")

    async def invoke(self, function: Function, value: Any) -> Any:
        """
        Call a function with its trigger's value.

        Raises: InvocationError: It raised; the trace is in the log, and the host goes on.
        """
        invocation_id = str(uuid.uuid4())
        call = functools.partial(function.call, **{function.parameter: value})
        try:
            if inspect.iscoroutinefunction(function.call):
                return await call()
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        except Exception as error:
            fields = {"function": function.name, "invocation_id": invocation_id}
            log.warning("function raised: %s", error, exc_info=error, extra=fields)
            raise InvocationError(function.name, invocation_id) from error

    def close(self) -> None:
        """Let running functions finish and end the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def http_request(
    *,
    method: str,
    url: str,
    headers: Mapping[str, str],
    query: Mapping[str, str],
    route: Mapping[str, str],
    body: bytes,
) -> HttpRequest:
    """Make the request that a function takes."""
    return HttpRequest(method=method, url=url, headers=headers, params=query, route_params=route, body=body)


def event_grid_event(event: Mapping[str, Any]) -> Any:
    """Make the event that a function takes: `EventGridEvent`, or for CloudEvents the class that the worker gives."""
    datum = Datum(json.dumps(event), "json")
    return eventgrid.EventGridEventInConverter.decode(datum, trigger_metadata=None)


def queue_message(*, message_id: str, body: str, dequeue_count: int) -> Any:
    """Make the queue message that a function takes."""
    metadata = {"Id": Datum(message_id, "string"), "DequeueCount": Datum(str(dequeue_count), "string")}
    return queue.QueueMessageInConverter.decode(Datum(body, "string"), trigger_metadata=metadata)


def timer_request(*, past_due: bool) -> Any:
    """Make the timer request that a function takes."""
    return timer.TimerRequestConverter.decode(Datum(json.dumps({"IsPastDue": past_due}), "json"), trigger_metadata=None)
