"""
Asking the model: one call at a time, for as many waiting requests as fit, without ever waiting for more to come.

A request that finds the model idle is asked at the end of the event loop's round, together with whatever else arrived
in that round; a single connection thus waits for nobody. Quick models are asked on the event loop itself, since a hop
to a thread and back costs more than they do; slow ones on the one model thread, so that the port keeps answering.
Which one a model is, is measured all the time.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

from mlops_core.serving.errors import ModelRaisedError, OverloadedError, ScoringError, ScoringTimeoutError
from mlops_core.serving.metrics import ScoringMetrics
from mlops_core.serving.options import Options
from mlops_core.serving.scorers import BatchMismatchError, Question, Scorer

_log = logging.getLogger(__name__)
_INLINE_SECONDS = 0.005  # a call this short delays others less than a thread switch under load does
_QUICK_CALLS_FIRST = 5  # so many short calls on the thread before the event loop is trusted with the model


class ModelThread:
    """The one thread on which a model is loaded and, where slow, asked. It never keeps the process from ending."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="model", daemon=True).start()

    def run(self, job: Callable[[], None]) -> None:
        """Queue a job, which has to catch what it raises."""
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            self._jobs.get()()


class Waiting:
    """A request that waits for its answer."""

    __slots__ = ("future", "question", "timer")

    def __init__(self, question: Question, future: asyncio.Future[Any], timer: asyncio.TimerHandle) -> None:
        self.question = question
        self.future = future
        self.timer = timer


class Batcher:
    """Takes questions on the event loop and gives each its own answer."""

    def __init__(self, scorer: Scorer, thread: ModelThread, options: Options, metrics: ScoringMetrics) -> None:
        self._scorer = scorer
        self._thread = thread
        self._options = options
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Waiting] = deque()
        self._batches = scorer.batches
        self._busy = False
        self._planned = False
        self._quick_calls = 0

    def ask(self, question: Question) -> asyncio.Future[Any]:
        """
        Queue a question; the future holds its answer or a `ScoringError`.

        Raises:
            OverloadedError: The queue is full.
        """
        if len(self._waiting) >= self._options.max_queue:
            message = f"{len(self._waiting)} requests wait already. Send this one again later."
            raise OverloadedError(message)
        future = self._loop.create_future()
        timer = self._loop.call_later(self._options.request_timeout_seconds, self._give_up, future)
        self._waiting.append(Waiting(question, future, timer))
        self._plan()
        return future

    def _give_up(self, future: asyncio.Future[Any]) -> None:
        if not future.done():
            seconds = self._options.request_timeout_seconds
            future.set_exception(
                ScoringTimeoutError(f"The model gave no answer within {seconds:g} seconds. Send fewer rows.")
            )

    def _plan(self) -> None:
        if not self._busy and not self._planned and self._waiting:
            self._planned = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._planned = False
        batch = self._next_batch()
        if not batch:
            return
        if self._scorer.may_run_inline and self._quick_calls >= _QUICK_CALLS_FIRST:
            self._finish(batch, *self._timed(batch))
            return
        self._busy = True

        def job() -> None:
            answers, seconds = self._timed(batch)
            self._loop.call_soon_threadsafe(self._finish, batch, answers, seconds)

        self._thread.run(job)

    def _next_batch(self) -> list[Waiting]:
        batch: list[Waiting] = []
        rows = 0
        while self._waiting:
            head = self._waiting[0]
            if head.future.done():  # timed out, or its client went away
                self._waiting.popleft()
                head.timer.cancel()
                continue
            if batch and not self._joins(batch[0], head, rows):
                break
            batch.append(self._waiting.popleft())
            rows += head.question.rows
        return batch

    def _joins(self, first: Waiting, other: Waiting, rows: int) -> bool:
        key = first.question.batch_key
        fits = rows + other.question.rows <= self._options.max_batch_rows
        return self._batches and key is not None and key == other.question.batch_key and fits

    def _timed(self, batch: list[Waiting]) -> tuple[list[Any], float]:
        start = time.perf_counter()
        answers = self._answers([waiting.question for waiting in batch])
        return answers, time.perf_counter() - start

    def _answers(self, questions: list[Question]) -> list[Any]:
        if len(questions) == 1:
            return [self._alone(questions[0])]
        try:
            return self._scorer.answer_together(questions)
        except BatchMismatchError as error:
            self._batches = False
            _log.warning("%s", error)
        except Exception:  # noqa: BLE001 - user code; one by one tells whose request it was
            _log.debug("a batch of %d requests raised; they are asked one by one", len(questions), exc_info=True)
        return [self._alone(question) for question in questions]

    def _alone(self, question: Question) -> Any:
        try:
            return self._scorer.answer(question)
        except ScoringError as error:
            return error
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code may raise anything, and others still wait
            error_id = uuid.uuid4().hex[:12]
            _log.error("the model raised, error id %s", error_id, exc_info=error)
            return ModelRaisedError(error_id)

    def _finish(self, batch: list[Waiting], answers: list[Any], seconds: float) -> None:
        self._busy = False
        self._quick_calls = self._quick_calls + 1 if seconds < _INLINE_SECONDS else 0
        self._metrics.batch_requests.observe(len(batch))
        self._metrics.batch_rows.observe(sum(waiting.question.rows for waiting in batch))
        for waiting, answer in zip(batch, answers):  # noqa: B905 - strict= came with Python 3.10; lengths are equal
            waiting.timer.cancel()
            if waiting.future.done():
                continue
            if isinstance(answer, ScoringError):
                waiting.future.set_exception(answer)
            else:
                waiting.future.set_result(answer)
        self._plan()
