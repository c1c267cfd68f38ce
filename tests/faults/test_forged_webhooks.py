"""Test 18: forged deliveries in every form that hosts have, with genuine ones in between, of two valid secrets."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from urllib.parse import parse_qs

import pytest
from deliveries import FORMS, RECEIVED_AT, Delivery, body_of, digest, gitlab_signed

from handlers.answers import error_answer
from mlops_core.adapters.hosts import build_verifiers
from mlops_core.adapters.hosts.signature import password_of
from mlops_core.domain.errors import BadInputError, UnauthorizedError
from mlops_core.domain.events import GitPush
from mlops_core.ports import PushVerifier

# The header that proves who sent a delivery, by form.
PROOF = {
    "github": "x-hub-signature-256",
    "github form": "x-hub-signature-256",
    "gitlab": "x-gitlab-token",
    "gitlab signed": "webhook-signature",
    "azure-devops": "authorization",
    "bitbucket": "x-hub-signature",
    "bitbucket-server": "x-hub-signature",
    "gitea": "x-gitea-signature",
    "gitea form": "x-gitea-signature",
    "local": "x-headrace-signature",
}
# These prove themselves by a secret that is sent, so another body is no forgery that anybody could see.
UNSIGNED_BODY = {"gitlab", "azure-devops"}


class Forger:
    """Makes up deliveries by somebody who has seen genuine ones, but does not know the secret."""

    def __init__(self, form: str, seed: int) -> None:
        self.form, self.random = form, Random(f"{form} {seed}")
        self.host, self.sign, self.secrets = FORMS[form]
        self.proof = PROOF[form]

    def genuine(self) -> Delivery:
        commit = f"{self.random.getrandbits(160) | 1:040x}"
        return self.sign(body_of(self.host, after=commit), self.random.choice(self.secrets))

    def forged(self) -> Delivery:
        """One that differs in what is proved: a flipped bit may leave that as it was, such as in %7B and %7b."""
        while True:
            genuine = self.genuine()
            delivery = self.random.choice(FORGERIES)(self, genuine)
            if self.proved(delivery) != self.proved(genuine):
                return delivery

    def proved(self, delivery: Delivery) -> object:
        """What the receiver compares."""
        if self.form == "azure-devops":
            return password_of(delivery.headers.get(self.proof))
        content: object = delivery.body if self.form not in UNSIGNED_BODY else None
        if self.form == "gitea form":
            content = parse_qs(delivery.body.decode("latin-1")).get("payload")
        names = (self.proof, "webhook-id", "webhook-timestamp", "content-type")
        return content, [delivery.headers.get(name, "").strip() for name in names]


def flipped_body(forger: Forger, real: Delivery) -> Delivery:
    data, bit = bytearray(real.body), forger.random.randrange(8 * len(real.body))
    data[bit // 8] ^= 1 << bit % 8
    return replace(real, body=bytes(data))


def flipped_proof(forger: Forger, real: Delivery) -> Delivery:
    text = real.headers[forger.proof]
    place = forger.random.randrange(len(text))
    other = chr(ord(text[place]) ^ 1 << forger.random.randrange(8))
    return real.with_header(forger.proof, text[:place] + other + text[place + 1 :])


def cut_body(forger: Forger, real: Delivery) -> Delivery:
    return replace(real, body=real.body[: forger.random.randrange(len(real.body))])


def padded_body(forger: Forger, real: Delivery) -> Delivery:
    return replace(real, body=forger.random.choice([real.body + b" ", b"\n" + real.body, real.body + real.body]))


def cut_proof(forger: Forger, real: Delivery) -> Delivery:
    text = real.headers[forger.proof]
    return real.with_header(forger.proof, text[: forger.random.randrange(len(text))])


def another_body(forger: Forger, real: Delivery) -> Delivery:
    return replace(real, body=forger.genuine().body)


def without_proof(forger: Forger, real: Delivery) -> Delivery:
    return real.with_header(forger.proof, None)


def proof_under_another_name(forger: Forger, real: Delivery) -> Delivery:
    name = forger.random.choice([forger.proof.upper(), forger.proof.title(), "x-hub-signature-512", "signature"])
    return real.with_header(forger.proof, None).with_header(name, real.headers[forger.proof])


def proof_in_another_case(forger: Forger, real: Delivery) -> Delivery:
    text = real.headers[forger.proof]
    return real.with_header(forger.proof, forger.random.choice([text.upper(), text.swapcase(), text.title()]))


def proof_of_strange_letters(forger: Forger, real: Delivery) -> Delivery:
    text = real.headers[forger.proof]
    wide = "".join(chr(ord(letter) + 0xFEE0) if letter.isalnum() else letter for letter in text)
    return real.with_header(
        forger.proof, forger.random.choice([wide, text + "\u0301", "\u200b" + text, "é", "\ud800", text + "\x00"])
    )


def repeated_proof(forger: Forger, real: Delivery) -> Delivery:
    text = real.headers[forger.proof]
    return real.with_header(forger.proof, forger.random.choice([f"{text},{text}", f"{text};{text}", text * 2]))


def signed_with_a_guess(forger: Forger, real: Delivery) -> Delivery:
    secret = forger.secrets[0]
    if forger.form == "gitlab signed":
        return gitlab_signed(real.body, b"whsec_" + base64.b64encode(forger.random.randbytes(32)))
    guesses = [b"", b"secret", secret[:-2], secret.upper(), secret + b"x", b"null", secret[:1], secret.hex().encode()]
    content = body_of(forger.host)
    return forger.sign(content, forger.random.choice(guesses))


def signed_in_another_way(forger: Forger, real: Delivery) -> Delivery:
    secret, body = forger.secrets[0], real.body
    bare = digest(secret, body)
    ways = [
        f"sha1={hmac.new(secret, body, hashlib.sha1).hexdigest()}",
        f"sha512={hmac.new(secret, body, hashlib.sha512).hexdigest()}",
        f"sha256={hashlib.sha256(secret + body).hexdigest()}",
        f"sha256={digest(b'', body)}",
        f"sha256=sha256={bare}",
        "sha256=" + "0" * 64,
        "sha256=",
        f"Bearer {bare}",
        base64.b64encode(bytes.fromhex(bare)).decode(),
        "v1," + base64.b64encode(bytes.fromhex(digest(secret, body))).decode(),
        "None",
        "*",
    ]
    return real.with_header(forger.proof, forger.random.choice(ways))


def from_another_time(forger: Forger, real: Delivery) -> Delivery:
    if forger.form != "gitlab signed":
        return without_proof(forger, real)
    if forger.random.random() < 0.5:
        return real.with_header("webhook-timestamp", str(int(RECEIVED_AT.timestamp()) + forger.random.randint(1, 200)))
    return gitlab_signed(
        real.body, at=RECEIVED_AT + timedelta(seconds=forger.random.choice([-1, 1]) * forger.random.randint(301, 9**9))
    )


FORGERIES: list[Callable[[Forger, Delivery], Delivery]] = [
    flipped_body,
    flipped_proof,
    cut_body,
    padded_body,
    cut_proof,
    another_body,
    without_proof,
    proof_under_another_name,
    proof_in_another_case,
    proof_of_strange_letters,
    repeated_proof,
    signed_with_a_guess,
    signed_in_another_way,
    from_another_time,
]


def accepted(verifier: PushVerifier, forger: Forger, count: int) -> list[Delivery]:
    """Deliver forged ones, a genuine one after every ten. Returns: The forged ones that were taken."""
    taken, answers = [], set()
    for number in range(count):
        delivery = forger.forged()
        try:
            verifier.pushes(delivery.headers, delivery.body, received_at=RECEIVED_AT)
            taken.append(delivery)
        except (UnauthorizedError, BadInputError) as error:
            answers.add(error_answer(error).status)
        if number % 10 == 0:
            genuine = forger.genuine()
            assert len(verifier.pushes(genuine.headers, genuine.body, received_at=RECEIVED_AT)) == 1
    assert answers <= {400, 401}
    return taken


def verifier_of(form: str) -> PushVerifier:
    host, _, secrets = FORMS[form]
    return build_verifiers({host: secrets})[host]


@pytest.mark.parametrize("form", FORMS)
def test_of_200_forged_deliveries_none_is_taken_and_every_genuine_one_is(form: str) -> None:
    assert accepted(verifier_of(form), Forger(form, seed=18), 200) == []


@pytest.mark.full
@pytest.mark.parametrize("form", FORMS)
def test_of_5000_forged_deliveries_none_is_taken_and_every_genuine_one_is(form: str) -> None:
    assert accepted(verifier_of(form), Forger(form, seed=1), 5_000) == []


class _Broken:
    """A verifier with a fault, over what the genuine one reads."""

    def __init__(self, form: str, fault: Callable[[Delivery, Sequence[bytes], str], bool]) -> None:
        self._host, _, self._secrets = FORMS[form]
        self._form, self._fault = form, fault

    def pushes(self, headers: object, body: bytes, *, received_at: datetime) -> Sequence[GitPush]:
        assert isinstance(headers, dict)
        if not self._fault(Delivery(headers, body), self._secrets, PROOF[self._form]):
            raise UnauthorizedError("no")
        return [GitPush(host="h", repository="r", ref="refs/heads/main", commit="a" * 40, pushed_at=received_at)]


def _trusts_what_is_not_signed(delivery: Delivery, secrets: Sequence[bytes], proof: str) -> bool:
    given = delivery.headers.get(proof)
    return given is None or given in {f"sha256={digest(secret, delivery.body)}" for secret in secrets}


def _compares_as_much_as_is_given(delivery: Delivery, secrets: Sequence[bytes], proof: str) -> bool:
    given = delivery.headers.get(proof, "x")
    return any(f"sha256={digest(secret, delivery.body)}".startswith(given) for secret in secrets)


def _ignores_case(delivery: Delivery, secrets: Sequence[bytes], proof: str) -> bool:
    return delivery.headers.get(proof, "").lower() in {f"sha256={digest(secret, delivery.body)}" for secret in secrets}


@pytest.mark.parametrize("fault", [_trusts_what_is_not_signed, _compares_as_much_as_is_given, _ignores_case])
def test_a_verifier_with_a_fault_is_caught(fault: Callable[[Delivery, Sequence[bytes], str], bool]) -> None:
    """Negative control."""
    assert accepted(_Broken("github", fault), Forger("github", seed=18), 200)
