"""Whatever JSON a sender signs, a verifier tells pushes that can be stored, or refuses it with BadInputError."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from deliveries import BEFORE, RECEIVED_AT, SECRET, SIGN, body_of, payload

from mlops_core.adapters.hosts import build_verifiers
from mlops_core.domain.errors import BadInputError
from mlops_core.domain.events import GitPush

VERIFIERS = build_verifiers({host: [SECRET] for host in SIGN})
STRANGE: list[Any] = [
    None, True, False, 0, -1, 10**30, 1e308, "", "\ud800", "\x00", "x" * 70_000, "refs/heads/..", "0" * 40,
    [], [None], [[]], {}, {"a": {}}, ["\udfff"],
]  # fmt: skip
REFUSED_BRANCHES = [
    "", "-x", "a..b", "a b", "a\nb", ".a", "a/.b", "a.lock", "a.lock/b", "a/", "a~1", "a^", "a:b", "@{u}", "a\\b",
    "a" * 300, "\x00",
]  # fmt: skip
BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "invalid UTF-8": b'{"ref": "\xff\xfe"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"ref": "a"}'.encode("utf-16"),
    "not a number": b'{"ref": NaN}',
    "infinity": b'{"repository": {"pushed_at": -Infinity}}',
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a number of many digits": b'{"total_commits_count": ' + b"9" * 100_000 + b"}",
    "many objects": b'{"commits": [' + b'{"":0},' * 200_000 + b"{}]}",
    "many lists": b'{"commits": [' + b"[]," * 200_000 + b"[]]}",
    "many numbers": b'{"commits": [' + b"0," * 2_100_000 + b"0]}",
    "a list": b"[]",
    "a text": b'"push"',
    "null": b"null",
}


def take(host: str, body: bytes) -> list[GitPush]:
    delivery = SIGN[host](body)
    return list(VERIFIERS[host].pushes(delivery.headers, delivery.body, received_at=RECEIVED_AT))


def rich(host: str) -> dict[str, Any]:
    """A made-up payload with everything in it that a verifier looks at."""
    data: dict[str, Any] = copy.deepcopy(payload(host))
    commit = {"id": "b" * 40, "commitId": "b" * 40, "message": "m", "added": ["a"], "modified": [], "removed": []}
    data |= {"commits": [commit], "total_commits_count": 1, "total_commits": 1, "head_commit": dict(commit)}
    data |= {"pusher": {"name": "n", "login": "n"}, "user_username": "n", "actor": {"name": "n", "nickname": "n"}}
    data |= {"date": "2026-01-01T00:00:00+0000", "createdDate": "2026-01-01T00:00:00Z", "id": "an-id"}
    if "resource" in data:
        data["resource"] |= {"commits": [commit], "date": "2026-01-01T00:00:00Z", "pushedBy": {"displayName": "n"}}
    if host == "github":
        data["repository"]["pushed_at"] = 1_700_000_000
    if host == "local":
        data["pushes"][0] |= {"changed": ["a"], "pushed_at": "2026-01-01T00:00:00Z", "pushed_by": "n", "message": "m"}
    return data


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Walk through every place of a value: what holds it, and under which key."""
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from places(inner)


@pytest.mark.parametrize("host", SIGN)
@pytest.mark.parametrize("name", BODIES)
def test_a_signed_body_that_is_no_json_object_is_bad_input(host: str, name: str) -> None:
    with pytest.raises(BadInputError, match=r"\.$"):
        take(host, BODIES[name])


@pytest.mark.parametrize("host", SIGN)
@pytest.mark.parametrize("strange", STRANGE, ids=lambda value: repr(value)[:20])
def test_a_strange_value_anywhere_is_bad_input_or_a_push_that_can_be_stored(host: str, strange: object) -> None:
    for index in range(len(list(places(rich(host))))):
        data = rich(host)
        holder, key = list(places(data))[index]
        holder[key] = strange
        try:
            pushes = take(host, json.dumps(data).encode())
        except BadInputError as error:
            str(error).encode()
            continue
        for push in pushes:
            push.model_dump_json().encode()


@pytest.mark.parametrize("host", SIGN)
def test_the_payload_without_any_strange_value_is_a_push(host: str) -> None:
    assert len(take(host, json.dumps(rich(host)).encode())) == 1


@pytest.mark.parametrize("host", SIGN)
@pytest.mark.parametrize("branch", REFUSED_BRANCHES)
def test_a_branch_with_a_hostile_name_is_skipped_and_recorded(
    host: str, branch: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert take(host, body_of(host, ref=f"refs/heads/{branch}")) == []
    assert [(record.levelname, record.msg) for record in caplog.records] == [
        ("WARNING", "a pushed ref was skipped: it is not the name of a branch")
    ]
    assert caplog.records[0].__dict__["ref"].isprintable()


MANY = {"azure-devops": ("resource", "refUpdates"), "bitbucket": ("push", "changes"), "bitbucket-server": ("changes",)}


@pytest.mark.parametrize("host", [*MANY, "local"])
def test_a_hostile_branch_among_others_does_not_cost_them_their_push(host: str) -> None:
    many = MANY.get(host, ("pushes",))
    data, odd = json.loads(body_of(host)), json.loads(body_of(host, ref="refs/heads/--upload-pack=x"))
    into, out_of = data, odd
    for key in many[:-1]:
        into, out_of = into[key], out_of[key]
    into[many[-1]] = [*out_of[many[-1]], *into[many[-1]]]

    assert [push.ref for push in take(host, json.dumps(data).encode())] == ["refs/heads/main"]


@pytest.mark.parametrize("host", SIGN)
@pytest.mark.parametrize(
    "ref", ["refs/heads/main", "refs/heads/feature/x-1", "refs/heads/größe", "refs/heads/v1.0", "refs/heads/a@b"]
)
def test_a_branch_that_git_allows_is_taken_as_it_is(host: str, ref: str) -> None:
    [push] = take(host, body_of(host, ref=ref))
    assert push.ref == ref


@pytest.mark.parametrize("host", SIGN)
@pytest.mark.parametrize("commit", ["b" * 39, "b" * 41, "g" * 40, "--upload-pack=x", "HEAD", "b" * 39 + "\n"])
def test_what_is_no_commit_id_is_bad_input(host: str, commit: str) -> None:
    with pytest.raises(BadInputError, match="no commit id"):
        take(host, body_of(host, after=commit))


@pytest.mark.parametrize("host", SIGN)
def test_ids_of_sha_256_repositories_are_commits(host: str) -> None:
    [push] = take(host, body_of(host, before="0" * 64, after="C" * 64))
    assert (push.commit, push.before) == ("c" * 64, None)


@pytest.mark.parametrize("host", SIGN)
def test_tags_and_deletions_are_no_pushes(host: str) -> None:
    assert take(host, body_of(host, ref="refs/tags/v1")) == []
    assert take(host, body_of(host, before=BEFORE, after="0" * 40)) == []


@pytest.mark.parametrize(
    "name", ["../etc", "owner/../name", "-x/y", "owner//name", "", "a\nb", "https://x/y", "a" * 300]
)
def test_what_is_no_name_of_a_repository_is_bad_input(name: str) -> None:
    body = json.dumps({**payload("github"), "repository": {"full_name": name}}).encode()
    with pytest.raises(BadInputError, match="not the name of a repository"):
        take("github", body)
