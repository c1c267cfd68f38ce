"""What every `DeadLetters` must do. An adapter joins with a class that gives a fixture `letters`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from azurite import Azurite, fresh_tables
from fakes import START

from mlops_core.adapters.azure.dead_letters import TableDeadLetters
from mlops_core.adapters.local.database import Database
from mlops_core.adapters.local.dead_letters import SqliteDeadLetters
from mlops_core.domain.errors import BadInputError, NotFoundError, TooLargeError
from mlops_core.domain.ids import EffectKey, RunId
from mlops_core.ports import DeadLetter, DeadLetters

LETTER = DeadLetter(
    letter_id="event-0001",
    kind="event",
    subject="delivery to git-push",
    reason="Given up after 5 attempts: 'Größe' is no number.\nline 2",
    body='{"id": "e1", "data": {"text": "東京 🚀"}}',
    created_at=START,
)
EFFECT = replace(
    LETTER,
    letter_id="effect-diabetes-0001-submit:build",
    kind="effect",
    run_id=RunId("diabetes-0001"),
    key=EffectKey("submit:build"),
)


def later(seconds: int) -> DeadLetter:
    return replace(LETTER, letter_id=f"letter-{seconds:03}", created_at=START + timedelta(seconds=seconds))


class DeadLettersContract:
    """The suite."""

    @pytest.mark.parametrize("letter", [LETTER, EFFECT], ids=["event", "effect"])
    def test_a_letter_is_read_back_as_it_was_kept(self, letters: DeadLetters, letter: DeadLetter) -> None:
        letters.put(letter)

        assert letters.get(letter.letter_id) == letter

    def test_a_body_as_large_as_an_event_may_be_is_kept_whole(self, letters: DeadLetters) -> None:
        """Event Grid's events have up to 1 MiB; a property of Table storage has 64 KiB, an entity 1 MiB."""
        large = replace(LETTER, body='{"data": "' + "ü" * 1_000_000 + '"}')
        letters.put(large)

        assert letters.get(large.letter_id) == large
        assert [letter.letter_id for letter in letters.list().items] == [large.letter_id]

    def test_a_letter_that_is_not_there_is_not_found(self, letters: DeadLetters) -> None:
        with pytest.raises(NotFoundError, match="no dead letter 'nothing'"):
            letters.get("nothing")

    @pytest.mark.parametrize("letter_id", ["a/b", "delivery #1?", "C:\\x", "läuft", "x" * 400])
    def test_any_id_can_be_kept_and_removed(self, letters: DeadLetters, letter_id: str) -> None:
        letters.put(replace(LETTER, letter_id=letter_id))
        assert letters.get(letter_id).letter_id == letter_id
        letters.remove(letter_id)

        assert list(letters.list().items) == []

    def test_the_same_id_again_changes_nothing(self, letters: DeadLetters) -> None:
        letters.put(LETTER)
        letters.put(replace(LETTER, reason="another", created_at=START + timedelta(days=1)))

        assert list(letters.list().items) == [LETTER]

    def test_letters_are_listed_newest_first_by_page(self, letters: DeadLetters) -> None:
        for number in range(1, 6):
            letters.put(later(number))
        first = letters.list(limit=2)
        second = letters.list(limit=2, cursor=first.cursor)
        third = letters.list(limit=2, cursor=second.cursor)

        listed = [letter.letter_id for letter in [*first.items, *second.items, *third.items]]
        assert listed == [f"letter-{number:03}" for number in (5, 4, 3, 2, 1)]
        assert third.cursor is None

    def test_a_page_that_is_just_full_is_the_last(self, letters: DeadLetters) -> None:
        for number in range(1, 4):
            letters.put(later(number))

        assert letters.list(limit=3).cursor is None

    def test_a_letter_kept_between_two_pages_does_not_shift_them(self, letters: DeadLetters) -> None:
        for number in range(1, 4):
            letters.put(later(number))
        first = letters.list(limit=2)
        letters.put(later(9))

        assert [letter.letter_id for letter in letters.list(limit=2, cursor=first.cursor).items] == ["letter-001"]

    @pytest.mark.parametrize("cursor", ["nonsense", "-1", "1e9", "9" * 400, "²", "id:1", "'"])
    def test_what_is_no_cursor_is_bad_input(self, letters: DeadLetters, cursor: str) -> None:
        letters.put(LETTER)

        with pytest.raises(BadInputError, match="is no cursor"):
            letters.list(cursor=cursor)

    def test_a_letter_that_was_removed_is_gone_and_may_be_removed_again(self, letters: DeadLetters) -> None:
        letters.put(LETTER)
        letters.put(EFFECT)
        letters.remove(LETTER.letter_id)
        letters.remove(LETTER.letter_id)

        assert list(letters.list().items) == [EFFECT]


class TestSqliteDeadLetters(DeadLettersContract):
    @pytest.fixture
    def letters(self, tmp_path: Path) -> Iterator[DeadLetters]:
        database = Database(tmp_path / "headrace.db")
        yield SqliteDeadLetters(database)
        database.close()


class TestTableDeadLetters(DeadLettersContract):
    @pytest.fixture
    def letters(self, storage: Azurite) -> DeadLetters:
        return TableDeadLetters(fresh_tables(storage))

    def test_a_body_that_hardly_shrinks_is_kept_in_several_rows_and_removed_whole(self, letters: DeadLetters) -> None:
        random = Random(1)
        body = "".join(chr(random.randrange(0x4E00, 0x9FFF)) for _ in range(600_000))
        letters.put(replace(LETTER, body=body))
        assert letters.get(LETTER.letter_id).body == body
        letters.remove(LETTER.letter_id)
        letters.put(replace(LETTER, body="short"))

        assert [letter.body for letter in letters.list().items] == ["short"]

    def test_what_fits_no_transaction_is_refused_with_a_sentence(self, letters: DeadLetters) -> None:
        random = Random(1)
        body = "".join(chr(random.randrange(0x4E00, 0x9FFF)) for _ in range(2_000_000))

        with pytest.raises(TooLargeError, match="at most 4 MiB"):
            letters.put(replace(LETTER, body=body))
