"""What a trigger hands over and is no event must neither be lost nor be delivered for ever."""

from __future__ import annotations

from builders import Bench

from handlers import events


def test_what_is_no_event_is_kept_as_a_dead_letter(bench: Bench) -> None:
    events.take_trigger(bench.app, {"id": "1", "data": {"a": 1}})

    letters = bench.app.world.dead_letters.list().items
    assert [letter.reason for letter in letters] == [
        "The event has no kind: it is neither an Event Grid event nor a CloudEvent."
    ]
    assert '"a": 1' in letters[0].body


def test_an_event_of_a_kind_that_nobody_takes_is_kept_with_its_kind(bench: Bench) -> None:
    event = {"id": "1", "eventType": "Somebody.Else", "eventTime": "2026-01-01T00:00:00Z", "subject": "s", "data": {}}
    events.take_trigger(bench.app, event)

    letter = bench.app.world.dead_letters.list().items[0]
    assert "Nothing here takes events of type 'Somebody.Else'" in letter.reason


def test_a_cloud_event_without_a_time_is_of_the_time_at_which_it_came(bench: Bench) -> None:
    """The specification of CloudEvents leaves the time to whoever sends it."""
    data = {"host": "local", "repository": "diabetes", "ref": "refs/heads/main", "commit": "c" * 40,
            "pushed_at": "2026-01-05T12:00:00Z"}  # fmt: skip
    event = {"specversion": "1.0", "id": "1", "type": "Headrace.GitPush", "source": "s", "data": data}
    events.take_trigger(bench.app, event)

    assert bench.app.world.dead_letters.list().items == []
    (run,) = bench.app.world.runs.of_project(None).items
    assert run.trigger.commit == "c" * 40
