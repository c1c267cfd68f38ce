"""The batcher: nobody gets another's rows, nobody suffers for another, nobody waits for company."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_core.serving.batching import Batcher, ModelThread
from mlops_core.serving.errors import ModelRaisedError, OverloadedError, ScoringTimeoutError
from mlops_core.serving.metrics import ScoringMetrics
from mlops_core.serving.options import Options
from mlops_core.serving.scorers import BatchMismatchError, Question

POISON = -1


class Doubler:
    """Doubles each number; raises on a poison; counts its calls; can be held at a gate."""

    signature = None
    declared = None
    batches = True
    needs_json = True

    def __init__(self, *, inline: bool = False, drops_rows: bool = False) -> None:
        self.may_run_inline = inline
        self.drops_rows = drops_rows
        self.calls: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def read(self, body: bytes) -> Question:
        raise NotImplementedError

    def answer(self, question: Question) -> Any:
        self.gate.wait(10)
        self.calls.append(1)
        if POISON in question.payload:
            raise ValueError(POISON)
        return [2 * number for number in question.payload]

    def answer_together(self, questions: list[Question]) -> list[Any]:
        self.gate.wait(10)
        if self.drops_rows:
            raise BatchMismatchError(2, 1)
        self.calls.append(len(questions))
        if any(POISON in question.payload for question in questions):
            raise ValueError(POISON)
        return [[2 * number for number in question.payload] for question in questions]


def question(numbers: list[int], key: str | None = "k") -> Question:
    return Question(numbers, len(numbers), key)


def batcher(scorer: Doubler, **options: Any) -> Batcher:
    return Batcher(scorer, ModelThread(), Options(model="m", **options), ScoringMetrics("m", "1"))


async def outcome(future: asyncio.Future[Any]) -> Any:
    try:
        return await future
    except ModelRaisedError:
        return "raised"


@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(
        st.tuples(st.lists(st.integers(-1, 50), min_size=1, max_size=5), st.sampled_from(["a", "b", None])), max_size=30
    ),
    inline=st.booleans(),
    max_rows=st.integers(1, 12),
)
def test_each_request_gets_its_own_rows_and_only_poisoned_ones_an_error(
    requests: list[tuple[list[int], str | None]], inline: bool, max_rows: int
) -> None:
    async def scenario() -> list[Any]:
        asked = batcher(Doubler(inline=inline), max_batch_rows=max_rows)
        return await asyncio.gather(*(outcome(asked.ask(question(numbers, key))) for numbers, key in requests))

    expected = ["raised" if POISON in numbers else [2 * n for n in numbers] for numbers, _ in requests]
    assert asyncio.run(scenario()) == expected


def test_requests_that_arrive_while_the_model_is_busy_are_asked_in_one_call() -> None:
    async def scenario() -> list[int]:
        scorer = Doubler()
        asked = batcher(scorer)
        scorer.gate.clear()
        first = asked.ask(question([1]))
        await asyncio.sleep(0)
        rest = [asked.ask(question([number])) for number in range(10)]
        scorer.gate.set()
        await asyncio.gather(first, *rest)
        return scorer.calls

    assert asyncio.run(scenario()) == [1, 10]


def test_a_model_that_loses_rows_is_asked_one_by_one_from_then_on() -> None:
    async def scenario() -> list[int]:
        scorer = Doubler(drops_rows=True)
        asked = batcher(scorer)
        assert await asyncio.gather(*(asked.ask(question([number])) for number in range(3))) == [[0], [2], [4]]
        await asyncio.gather(*(asked.ask(question([number])) for number in range(2)))
        return scorer.calls

    assert asyncio.run(scenario()) == [1] * 5


def test_a_full_queue_is_told_at_once() -> None:
    async def scenario() -> None:
        asked = batcher(Doubler(), max_queue=2)
        taken = [asked.ask(question([1])), asked.ask(question([1]))]
        with pytest.raises(OverloadedError, match="2 requests wait"):
            asked.ask(question([1]))
        await asyncio.gather(*taken)

    asyncio.run(scenario())


def test_a_request_that_waits_too_long_gets_a_timeout_and_the_next_one_an_answer() -> None:
    async def scenario() -> None:
        scorer = Doubler()
        asked = batcher(scorer, request_timeout_seconds=0.02)
        scorer.gate.clear()
        with pytest.raises(ScoringTimeoutError, match=r"0\.02 seconds"):
            await asked.ask(question([1]))
        scorer.gate.set()
        assert await asked.ask(question([2])) == [4]

    asyncio.run(scenario())
