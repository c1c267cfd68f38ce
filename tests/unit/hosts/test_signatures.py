"""Who may deliver: every genuine form with every valid secret, and nobody else."""

import base64
from collections.abc import Sequence
from datetime import timedelta

import pytest
from deliveries import (
    FORMS,
    OLD_SECRET,
    RECEIVED_AT,
    SECRET,
    SIGN,
    SIGNING_TOKEN,
    Delivery,
    azure_devops,
    body_of,
    digest,
    gitea,
    github,
    gitlab,
    gitlab_signed,
)

from mlops_core.adapters.hosts import WEBHOOKS, build_verifiers
from mlops_core.domain.errors import BadInputError, UnauthorizedError
from mlops_core.domain.events import GitPush


def take(host: str, delivery: Delivery, secrets: Sequence[bytes]) -> Sequence[GitPush]:
    verifier = build_verifiers({host: secrets})[host]
    return verifier.pushes(delivery.headers, delivery.body, received_at=RECEIVED_AT)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("index", [0, 1])
def test_during_a_rotation_either_secret_is_taken(form: str, index: int) -> None:
    host, sign, secrets = FORMS[form]
    assert len(take(host, sign(body_of(host), secrets[index]), secrets)) == 1


@pytest.mark.parametrize("form", FORMS)
def test_after_a_rotation_the_old_secret_is_refused(form: str) -> None:
    host, sign, (new, old) = FORMS[form]
    with pytest.raises(UnauthorizedError, match=r"Set the same|is missing"):
        take(host, sign(body_of(host), old), [new])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("secrets", [[], [b""], [SECRET, b""]], ids=["none", "an empty one", "one empty of two"])
def test_without_a_secret_or_with_an_empty_one_everything_is_refused(form: str, secrets: list[bytes]) -> None:
    host, sign, (valid, _) = FORMS[form]
    for secret in (valid, *secrets):
        delivery = sign(body_of(host), valid if valid.startswith(b"whsec_") else secret)
        with pytest.raises(UnauthorizedError, match="HEADRACE_WEBHOOK_SECRETS"):
            take(host, delivery, secrets)


def test_there_is_a_verifier_for_every_host_of_the_table_whatever_secrets_there_are() -> None:
    assert set(build_verifiers({"sourceforge": [b"a"]})) == set(WEBHOOKS) == set(SIGN)


@pytest.mark.parametrize("form", FORMS)
def test_a_delivery_without_headers_is_refused(form: str) -> None:
    host, sign, secrets = FORMS[form]
    body = sign(body_of(host), secrets[0]).body
    with pytest.raises(UnauthorizedError, match="is missing"):
        take(host, Delivery({}, body), secrets)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", ["é", "\udcff", "\ud800x", "", " ", "sha256=", "Basic", "Basic !", "v1,", "v1"])
def test_a_header_of_any_text_is_refused_and_never_crashes(form: str, value: str) -> None:
    host, sign, secrets = FORMS[form]
    delivery = sign(body_of(host), secrets[0])
    proofs = ("x-hub-signature-256", "x-gitlab-token", "authorization", "x-hub-signature", "x-gitea-signature",
              "webhook-signature", "x-headrace-signature")  # fmt: skip
    for name in proofs:
        delivery = delivery.with_header(name, value) if name in delivery.headers else delivery
    with pytest.raises(UnauthorizedError):
        take(host, delivery, secrets)


@pytest.mark.parametrize(
    ("host", "header"),
    [
        ("github", "x-github-event"),
        ("gitea", "x-gitea-event"),
        ("bitbucket", "x-event-key"),
        ("bitbucket-server", "x-event-key"),
    ],
)
def test_a_delivery_that_does_not_say_its_event_is_bad_input(host: str, header: str) -> None:
    with pytest.raises(BadInputError, match=header):
        take(host, SIGN[host](body_of(host)).with_header(header, None), [SECRET])


class TestGitHub:
    def test_the_old_sha_1_alone_is_refused(self) -> None:
        with pytest.raises(UnauthorizedError, match="x-hub-signature-256"):
            take("github", github(body_of("github")).with_header("x-hub-signature-256", None), [SECRET])

    def test_a_delivery_of_gitea_is_told_where_it_belongs(self) -> None:
        with pytest.raises(BadInputError, match="/gitea"):
            take("github", gitea(body_of("github")), [SECRET])

    @pytest.mark.parametrize(
        "body", [b"", b"payload=", b"payload=%7B%7D&payload=%7B%7D", b"payload=%FF", b"\xff", b"a=1&" * 50]
    )
    def test_a_form_without_one_readable_payload_is_bad_input(self, body: bytes) -> None:
        delivery = github(body).with_header("content-type", "application/x-www-form-urlencoded")
        with pytest.raises(BadInputError):
            take("github", delivery, [SECRET])

    def test_events_that_are_no_pushes_tell_none(self) -> None:
        for event in ("ping", "pull_request", "create", "delete", "workflow_run"):
            assert take("github", github(body_of("github"), event=event), [SECRET]) == []


class TestGitLab:
    def test_a_signature_is_taken_for_five_minutes_either_way(self) -> None:
        for seconds in (-300, 0, 300):
            delivery = gitlab_signed(body_of("gitlab"), at=RECEIVED_AT + timedelta(seconds=seconds))
            [push] = take("gitlab", delivery, [SIGNING_TOKEN])
            assert push.pushed_at == RECEIVED_AT + timedelta(seconds=seconds)

    @pytest.mark.parametrize("seconds", [-301, 301, -86_400, 10**9])
    def test_a_signature_from_another_time_is_refused(self, seconds: int) -> None:
        delivery = gitlab_signed(body_of("gitlab"), at=RECEIVED_AT + timedelta(seconds=seconds))
        with pytest.raises(UnauthorizedError, match=r"signed -?[0-9]+ seconds before"):
            take("gitlab", delivery, [SIGNING_TOKEN])

    def test_the_time_and_the_id_are_part_of_what_is_signed(self) -> None:
        delivery = gitlab_signed(body_of("gitlab"))
        for name in ("webhook-timestamp", "webhook-id"):
            with pytest.raises(UnauthorizedError, match="does not fit"):
                take("gitlab", delivery.with_header(name, str(int(RECEIVED_AT.timestamp()) + 1)), [SIGNING_TOKEN])

    def test_one_valid_signature_of_several_is_enough(self) -> None:
        delivery = gitlab_signed(body_of("gitlab"))
        several = f"v1a,zzz v1,AAAA {delivery.headers['webhook-signature']}"
        assert take("gitlab", delivery.with_header("webhook-signature", several), [SIGNING_TOKEN])

    def test_a_signing_token_is_never_taken_as_a_plain_one(self) -> None:
        with pytest.raises(UnauthorizedError, match="webhook-signature"):
            take("gitlab", gitlab(body_of("gitlab"), SIGNING_TOKEN), [SIGNING_TOKEN])

    def test_a_wrong_signature_does_not_fall_back_to_the_plain_token(self) -> None:
        delivery = gitlab_signed(body_of("gitlab"), b"whsec_AAAA").with_header("x-gitlab-token", SECRET.decode())
        with pytest.raises(UnauthorizedError, match="webhook-signature"):
            take("gitlab", delivery, [SECRET, SIGNING_TOKEN])
        assert take("gitlab", delivery, [SECRET]), "where no signing token is set, the plain one counts"

    def test_a_signing_token_that_is_no_base64_is_told(self) -> None:
        with pytest.raises(UnauthorizedError, match="base64"):
            take("gitlab", gitlab_signed(body_of("gitlab")), [b"whsec_%"])


class TestAzureDevOps:
    @pytest.mark.parametrize("user", ["", "anyone", "é"])
    def test_the_password_is_the_secret_under_any_user_name(self, user: str) -> None:
        header = "basic " + base64.b64encode(user.encode() + b":a:b").decode()
        assert take("azure-devops", Delivery({"authorization": header}, body_of("azure-devops")), [b"a:b"])

    def test_another_spelling_of_the_same_bytes_is_refused(self) -> None:
        delivery = azure_devops(body_of("azure-devops"), b"a")
        header = delivery.headers["authorization"]
        assert header.endswith("lOmE="), "the last digit has two bits to spare"
        with pytest.raises(UnauthorizedError):
            take("azure-devops", delivery.with_header("authorization", header[:-2] + "F="), [b"a"])


class TestGitea:
    def test_githubs_headers_alone_are_refused(self) -> None:
        with pytest.raises(UnauthorizedError, match="x-gitea-signature"):
            take("gitea", github(body_of("gitea")), [SECRET])

    def test_a_prefix_or_upper_case_is_refused(self) -> None:
        body = body_of("gitea")
        for written in (f"sha256={digest(SECRET, body)}", digest(SECRET, body).upper()):
            with pytest.raises(UnauthorizedError):
                take("gitea", gitea(body).with_header("x-gitea-signature", written), [SECRET, OLD_SECRET])
