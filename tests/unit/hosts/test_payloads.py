"""What is read out of a genuine delivery beyond the published payloads."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from deliveries import AFTER, BEFORE, RECEIVED_AT, SECRET, SIGN, ZEROS, payload

from mlops_core.adapters.hosts import build_verifiers
from mlops_core.adapters.hosts.payload import time_of
from mlops_core.domain.errors import BadInputError
from mlops_core.domain.events import GitPush

VERIFIERS = build_verifiers({host: [SECRET] for host in SIGN})


def take(host: str, data: dict[str, Any], **headers: str) -> list[GitPush]:
    delivery = SIGN[host](json.dumps(data).encode())
    return list(VERIFIERS[host].pushes({**delivery.headers, **headers}, delivery.body, received_at=RECEIVED_AT))


def commit(**files: list[str]) -> dict[str, Any]:
    return {"id": AFTER, "message": "m", "added": [], "modified": [], "removed": []} | files


@pytest.mark.parametrize(
    ("host", "count"), [("github", {}), ("gitlab", {"total_commits_count": 2}), ("gitea", {"total_commits": 2})]
)
def test_the_files_of_all_commits_are_told_once_each(host: str, count: dict[str, int]) -> None:
    commits = [commit(added=["b", "a"]), commit(modified=["a"], removed=["c"])]
    [push] = take(host, {**payload(host), **count, "commits": commits})
    assert push.changed == ("a", "b", "c")


@pytest.mark.parametrize(
    ("host", "incomplete"),
    [
        ("github", {"forced": True}),
        ("github", {"before": ZEROS}),
        ("github", {"commits": []}),
        ("github", {"commits": [commit()] * 2048}),
        ("github", {"commits": [{"id": AFTER, "added": ["a"]}]}),
        ("gitlab", {"total_commits_count": 21}),
        ("gitlab", {}),
        ("gitlab", {"total_commits_count": 1, "before": ZEROS}),
        ("gitea", {"total_commits": 6}),
        ("gitea", {}),
    ],
)
def test_files_that_may_not_be_all_are_unknown(host: str, incomplete: dict[str, Any]) -> None:
    [push] = take(host, {**payload(host), "commits": [commit(added=["a"])], **incomplete})
    assert push.changed is None


@pytest.mark.parametrize("host", ["azure-devops", "bitbucket", "bitbucket-server", "local"])
def test_hosts_that_tell_no_files_leave_them_unknown(host: str) -> None:
    [push] = take(host, payload(host))
    assert push.changed is None


def several(host: str) -> dict[str, Any]:
    """A payload that changes main, moves a tag, deletes a branch and creates one."""
    refs = [("refs/heads/main", BEFORE, AFTER), ("refs/tags/v1", BEFORE, AFTER), ("refs/heads/old", BEFORE, ZEROS),
            ("refs/heads/new", ZEROS, AFTER)]  # fmt: skip
    single = [payload(host, ref=ref, before=before, after=after) for ref, before, after in refs]
    whole = single[0]
    if host == "azure-devops":
        whole["resource"]["refUpdates"] = [one["resource"]["refUpdates"][0] for one in single]
    elif host == "bitbucket":
        whole["push"]["changes"] = [one["push"]["changes"][0] for one in single]
    else:
        name = "pushes" if host == "local" else "changes"
        whole[name] = [one[name][0] for one in single]
    return whole


@pytest.mark.parametrize("host", ["azure-devops", "bitbucket", "bitbucket-server", "local"])
def test_several_refs_in_one_delivery_are_a_push_per_branch(host: str) -> None:
    pushes = [(push.ref, push.commit, push.before) for push in take(host, several(host))]
    assert pushes == [("refs/heads/main", AFTER, BEFORE), ("refs/heads/new", AFTER, None)]


def test_a_push_told_by_gitlabs_system_hook_counts() -> None:
    data = payload("gitlab") | {"event_name": "push"}
    del data["object_kind"]
    assert len(take("gitlab", data)) == 1
    assert take("gitlab", data | {"event_name": "repository_update"}) == []


def test_azure_devops_without_details_names_what_is_missing() -> None:
    data = payload("azure-devops")
    del data["resource"]["repository"]
    with pytest.raises(BadInputError, match="repository"):
        take("azure-devops", data)
    assert take("azure-devops", {"eventType": "git.pullrequest.created"}) == []


def test_azure_devops_projects_may_have_letters_of_any_script_and_blanks() -> None:
    data = payload("azure-devops")
    data["resource"]["repository"] = {"name": "Modèles 2", "project": {"name": "R&D (Köln)"}}
    assert take("azure-devops", data)[0].repository == "R&D (Köln)/Modèles 2"


def test_the_connection_test_of_bitbucket_server_is_taken_and_tells_nothing() -> None:
    assert take("bitbucket-server", {"test": True}, **{"x-event-key": "diagnostics:ping"}) == []


def test_a_gitea_push_that_deletes_is_no_push() -> None:
    assert take("gitea", payload("gitea", after=ZEROS)) == []


def test_a_strange_delivery_id_is_left_out() -> None:
    assert take("github", payload("github"), **{"x-github-delivery": "é\ud800"})[0].delivery_id == ""
    assert take("github", payload("github"), **{"x-github-delivery": "x" * 201})[0].delivery_id == ""


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        (1_700_000_000, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("2018-07-05T18:22:00+0000", datetime(2018, 7, 5, 18, 22, tzinfo=UTC)),
        ("2014-05-02T19:17:13.3309587Z", datetime(2014, 5, 2, 19, 17, 13, 330_958, tzinfo=UTC)),
        ("2020-01-01T00:00:00+02:00", datetime(2019, 12, 31, 22, tzinfo=UTC)),
        ("0001-01-01T00:00:00+23:00", RECEIVED_AT),
        (1e308, RECEIVED_AT),
        (-(10**18), RECEIVED_AT),
        (True, RECEIVED_AT),
        ("yesterday", RECEIVED_AT),
        (None, RECEIVED_AT),
    ],
)
def test_times_are_read_as_hosts_write_them(written: object, moment: datetime) -> None:
    assert time_of(written, RECEIVED_AT) == moment


@pytest.mark.parametrize(("ahead", "believed"), [(-86_400, True), (0, True), (599, True), (601, False), (10**9, False)])
def test_the_time_of_a_push_is_believed_unless_it_is_long_after_the_delivery(ahead: int, *, believed: bool) -> None:
    told = RECEIVED_AT + timedelta(seconds=ahead)

    assert time_of(told.isoformat(), RECEIVED_AT) == (told if believed else RECEIVED_AT)
    assert time_of(told.timestamp(), RECEIVED_AT) == (told if believed else RECEIVED_AT)
