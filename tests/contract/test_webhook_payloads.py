"""Every payload that repository hosts have published gives the right answer, signed as its host signs."""

import json
from pathlib import Path

import pytest
from builders import Bench
from deliveries import RECEIVED_AT, SECRET, SIGN, WEBHOOKS, Delivery, gitea_form, github_form, gitlab_signed

from handlers.answers import Answer, Request, error_answer
from handlers.webhook import take_webhook
from mlops_core.adapters.hosts import build_verifiers
from mlops_core.application import Application, Limits, assemble
from mlops_core.domain.errors import HeadraceError
from mlops_core.domain.ids import ProjectName
from mlops_core.ports import ProjectRecord

HOSTS = {
    "github": "github",
    "gitlab": "gitlab",
    "azuredevops": "azure-devops",
    "bitbucket": "bitbucket",
    "bitbucket-server": "bitbucket-server",
    "gitea": "gitea",
}
# The event that a host names in a header, as far as the file's content does not say it by itself.
EVENTS = {
    "create": "create",
    "delete": "delete",
    "ping": "ping",
    "branch_create": "create",
    "branch_delete": "delete",
    "tag_create": "create",
    "tag_delete": "delete",
}
Expected = list[tuple[str, str, str | None]]
NEW_BRANCH: Expected = [("refs/heads/master", "6113728f27ae82c7b1a177c8d03f9e96e0adf246", None)]
EXPECTED: dict[str, Expected] = {
    "azuredevops/go-scm.push.json": [
        ("refs/heads/master", "33b55f7cb7e7e245323987634f960cf4a6e6bc74", "aad331d8d3b131fa9ae03cf5e53965b51942618a")
    ],
    "bitbucket-server/push.json": [
        ("refs/heads/master", "823b2230a56056231c9425d63758fa87078a66b4", "5c64a07cd6c0f21b753bf261ef059c7e7633c50a")
    ],
    "bitbucket-server/push_branch_create.json": [
        ("refs/heads/develop", "208b0a5c05eddadad01f2aed8802fe0c3b3eaf5e", None)
    ],
    "bitbucket-server/push_branch_delete.json": [],
    "bitbucket-server/push_tag_create.json": [],
    "bitbucket-server/push_tag_delete.json": [],
    "bitbucket/push.json": [
        ("refs/heads/master", "141977fedf5cf35aa290ac87d4b5177ac4cd9de1", "40e7580cf11311d84a6e5e97e2cbba6df1675750")
    ],
    "bitbucket/push_branch_create.json": [("refs/heads/develop", "141977fedf5cf35aa290ac87d4b5177ac4cd9de1", None)],
    "bitbucket/push_branch_delete.json": [],
    "bitbucket/push_tag_create.json": [],
    "bitbucket/push_tag_delete.json": [],
    "gitea/branch_create.json": [],
    "gitea/branch_delete.json": [],
    "gitea/push.json": [
        ("refs/heads/master", "4522cbcefc20728a5b72b3a86af35e608622c514", "9836a96a253cce25d17988fcf41b8c4205cf779f")
    ],
    "gitea/tag_create.json": [],
    "gitea/tag_delete.json": [],
    "github/create.payload.json": [],
    "github/create.with-description.payload.json": [],
    "github/create.with-installation.payload.json": [],
    "github/create.with-organization.payload.json": [],
    "github/delete.payload.json": [],
    "github/delete.with-installation.payload.json": [],
    "github/delete.with-organization.payload.json": [],
    "github/go-scm.branch_create.json": [],
    "github/go-scm.branch_delete.json": [],
    "github/go-scm.push.json": [
        ("refs/heads/master", "199eddf46df50de8d02e99bf1c5fdb4101338224", "a10867b14bb761a232cd80139fbd4c0d33264240")
    ],
    "github/go-scm.push_branch_create.json": [
        ("refs/heads/feature-branch", "d2b75aa7797ec26b088fa2dd527e9d2c052fcedd", None)
    ],
    "github/go-scm.push_branch_delete.json": [],
    "github/go-scm.push_tag.json": [],
    "github/go-scm.push_tag_delete.json": [],
    "github/go-scm.tag_create.json": [],
    "github/go-scm.tag_delete.json": [],
    "github/ping.payload.json": [],
    "github/ping.with-app_id.payload.json": [],
    "github/ping.with-organization.payload.json": [],
    "github/push.1.payload.json": [],
    "github/push.payload.json": [],
    "github/push.with-installation.payload.json": [],
    "github/push.with-new-branch.payload.json": NEW_BRANCH,
    "github/push.with-no-username-committer.payload.json": NEW_BRANCH,
    "github/push.with-organization.payload.json": [],
    "gitlab/branch_create.json": [("refs/heads/feature", "c4c79227ed610f1151f05bbc5be33b4f340d39c8", None)],
    "gitlab/branch_delete.json": [],
    "gitlab/push.json": [
        ("refs/heads/master", "2adc9465c4edfc33834e173fe89436a7cb899a1d", "9217710ce8c7e1eae7a5d1c45f6e43e1c769f866")
    ],
    "gitlab/push_merge.json": [
        ("refs/heads/master", "78a76ee6b4992a6baf64c59fc4c44c7323d60438", "2adc9465c4edfc33834e173fe89436a7cb899a1d")
    ],
    "gitlab/tag_create.json": [],
    "gitlab/tag_delete.json": [],
}
# repository, time, by whom, first line, changed files, delivery id of each host's ordinary push
TOLD: dict[str, tuple[str, str, str, str, tuple[str, ...] | None, str]] = {
    "github/go-scm.push.json": (
        "Codertocat/Hello-World", "2018-05-30T20:18:48+00:00", "Codertocat", "Update README", ("README.md",),
        "72d3162e-cc78-11e3-81ab-4c9367dc0958",
    ),
    "gitlab/push.json": (
        "gitlab-org/hello-world", RECEIVED_AT.isoformat(), "sytses", "added readme", ("README.md",),
        "f5e5f430-f57b-4e6e-9fac-d9128cd7232f",
    ),
    "azuredevops/go-scm.push.json": (
        "Fabrikam-Fiber-Git/Fabrikam-Fiber-Git", "2014-05-02T19:17:13.330958+00:00", "Jamal Hartnett",
        "Fixed bug in web.config file", None, "03c164c2-8912-4d5e-8009-3707d5f83734",
    ),
    "bitbucket/push.json": (
        "brydzewski/foo", RECEIVED_AT.isoformat(), "Brad Rydzewski", "Update README", None,
        "6cbbbaed-3f29-4c9f-8a4e-2ef0b5c1cf34",
    ),
    "bitbucket-server/push.json": (
        "PRJ/my-repo", "2018-07-05T18:22:00+00:00", "jcitizen", "", None, "3ab3ab4d-9b4d-4a4d-8a4e-2ef0b5c1cf34",
    ),
    "gitea/push.json": (
        "gogits/hello-world", RECEIVED_AT.isoformat(), "unknwon", "Updated readme", None,
        "cafe0000-0000-4000-8000-000000000000",
    ),
}  # fmt: skip
needs_payloads = pytest.mark.skipif(not WEBHOOKS.is_dir(), reason=f"the published payloads are not at {WEBHOOKS}")


def deliver(name: str, secret: bytes = SECRET) -> Delivery:
    body, host = (WEBHOOKS / name).read_bytes(), HOSTS[name.partition("/")[0]]
    if host in ("github", "gitea"):
        file = Path(name).name.removeprefix("go-scm.")
        event = next((event for start, event in EVENTS.items() if file.startswith(start)), "push")
        return SIGN[host](body, secret, event)
    return SIGN[host](body, secret)


@needs_payloads
def test_every_published_payload_is_in_the_table() -> None:
    assert {str(path.relative_to(WEBHOOKS)) for path in WEBHOOKS.rglob("*") if path.is_file()} == set(EXPECTED)


@needs_payloads
@pytest.mark.parametrize("name", EXPECTED)
def test_a_published_payload_tells_its_pushes_to_branches(name: str) -> None:
    host, delivery = HOSTS[name.partition("/")[0]], deliver(name)
    pushes = build_verifiers({host: [SECRET]})[host].pushes(delivery.headers, delivery.body, received_at=RECEIVED_AT)
    assert [(push.ref, push.commit, push.before) for push in pushes] == EXPECTED[name]
    assert {push.host for push in pushes} <= {host}


@needs_payloads
@pytest.mark.parametrize("name", TOLD)
def test_a_push_tells_who_when_and_what(name: str) -> None:
    host, delivery = HOSTS[name.partition("/")[0]], deliver(name)
    [push] = build_verifiers({host: [SECRET]})[host].pushes(delivery.headers, delivery.body, received_at=RECEIVED_AT)
    message = push.message.partition("\n")[0]
    told = (push.repository, push.pushed_at.isoformat(), push.pushed_by, message, push.changed, push.delivery_id)
    assert told == TOLD[name]


@needs_payloads
@pytest.mark.parametrize(
    ("host", "name", "sign", "secret"),
    [
        ("github", "github/go-scm.push.json", github_form, SECRET),
        ("gitea", "gitea/push.json", gitea_form, SECRET),
        ("gitlab", "gitlab/push.json", gitlab_signed, b"whsec_bm90IGEgc2VjcmV0"),
    ],
)
def test_another_form_of_a_delivery_tells_the_same_push(host: str, name: str, sign: object, secret: bytes) -> None:
    assert callable(sign)
    delivery = sign((WEBHOOKS / name).read_bytes(), secret)
    pushes = build_verifiers({host: [secret]})[host].pushes(delivery.headers, delivery.body, received_at=RECEIVED_AT)
    assert [(push.ref, push.commit, push.before) for push in pushes] == EXPECTED[name]


class TestAnswers:
    """What a repository host is answered, by the published payloads."""

    @staticmethod
    def app(bench: Bench, *, repository: str, host: str, limit: int = 26_214_400) -> Application:
        verifiers = build_verifiers({name: [SECRET] for name in HOSTS.values()})
        record = ProjectRecord(
            name=ProjectName("sample"), host=host, repository=repository, clone_url="https://example.org"
        )
        bench.app.world.projects.put(record)
        return assemble(bench.app.world, verifiers=verifiers, limits=Limits(webhook_bytes=limit))

    @staticmethod
    def answer(app: Application, host: str, delivery: Delivery) -> Answer:
        request = Request(body=delivery.body, headers=delivery.headers, params={"host": host})
        try:
            return take_webhook(app, request)
        except HeadraceError as error:
            return error_answer(error)

    @needs_payloads
    @pytest.mark.parametrize("name", TOLD)
    def test_a_push_to_a_known_repository_is_accepted_and_published(self, bench: Bench, name: str) -> None:
        host = HOSTS[name.partition("/")[0]]
        app = self.app(bench, repository=TOLD[name][0], host=host)
        answer = self.answer(app, host, deliver(name))
        [run] = json.loads(answer.body)["runs"]
        assert (answer.status, run["project"], run["branch"]) == (202, "sample", "master")
        assert len(bench.bus.published) == 1

    @needs_payloads
    @pytest.mark.parametrize("name", [name for name, expected in EXPECTED.items() if not expected])
    def test_what_is_no_push_to_a_branch_is_accepted_and_publishes_nothing(self, bench: Bench, name: str) -> None:
        host = HOSTS[name.partition("/")[0]]
        answer = self.answer(self.app(bench, repository="none", host=host), host, deliver(name))
        assert (answer.status, json.loads(answer.body), bench.bus.published) == (
            202,
            {"accepted": True, "runs": []},
            {},
        )

    @needs_payloads
    @pytest.mark.parametrize("name", TOLD)
    def test_an_unknown_repository_is_answered_404(self, bench: Bench, name: str) -> None:
        host = HOSTS[name.partition("/")[0]]
        answer = self.answer(self.app(bench, repository="another", host=host), host, deliver(name))
        assert answer.status == 404
        assert TOLD[name][0] in json.loads(answer.body)["error"]

    @needs_payloads
    @pytest.mark.parametrize("name", TOLD)
    def test_a_wrong_signature_is_answered_401(self, bench: Bench, name: str) -> None:
        host = HOSTS[name.partition("/")[0]]
        app = self.app(bench, repository=TOLD[name][0], host=host)
        answer = self.answer(app, host, deliver(name, b"wrong"))
        assert (answer.status, bench.bus.published) == (401, {})
        assert json.loads(answer.body)["error"].endswith(".")

    @needs_payloads
    @pytest.mark.parametrize("name", TOLD)
    def test_an_oversized_body_is_answered_413_before_it_is_read(self, bench: Bench, name: str) -> None:
        host = HOSTS[name.partition("/")[0]]
        app = self.app(bench, repository=TOLD[name][0], host=host, limit=900)
        answer = self.answer(app, host, deliver(name, b"wrong"))
        assert answer.status == 413
        assert "at most 900" in json.loads(answer.body)["error"]

    def test_an_unknown_host_is_answered_404_with_those_that_are_known(self, bench: Bench) -> None:
        answer = self.answer(self.app(bench, repository="any", host="github"), "sourceforge", Delivery({}, b"{}"))
        assert answer.status == 404
        assert "bitbucket-server" in json.loads(answer.body)["error"]
