"""External accounts: who may register, and what a binding must be; RFC 8555 section 7.3.4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.acme_client import AcmeClient, Answer, b64, binding, jwk_of
from tests.acme_serving import Serving
from tests.auth_blocks import block

from acmems.auth import Caller
from acmems.auth.methods import ExternalAccountMethod
from acmems.events import AcmeAccountEvent
from acmems.exceptions import ConfigurationError, StorageUnavailable
from acmems.text import Secret

SECRET = bytes(range(32))
OTHER = ec.generate_private_key(ec.SECP256R1())
BOUND = block(("eab-kid", "build"), ("eab-hmac-key", b64(SECRET)), ("domain", "**"))
FOR_ONE = block(
    ("eab-kid", "build"), ("eab-hmac-key", b64(SECRET)), ("eab-once", "yes"), ("domain", "**"), name="one"
)


@pytest.fixture(autouse=True)
def _bound(acme: Serving) -> None:
    """The one auth block has an external account."""
    acme.blocks, acme.requires_external_account = (BOUND,), True


def register(client: AcmeClient, secret: bytes = SECRET, **changed: Any) -> Answer:
    """Register with a binding; what is given replaces what is right."""
    key = changed.pop("key", client.key)
    made = binding("build", secret, client.directory["newAccount"], key, **changed)
    return client.register(externalAccountBinding=made)


class TestRegistration:
    @pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
    def test_bound(self, acme: Serving, client: AcmeClient, algorithm: str) -> None:
        """Who knows the HMAC key gets an account that is bound to the external one."""
        assert client.directory["meta"]["externalAccountRequired"]
        made = register(client, alg=algorithm)
        assert made.status == 201
        [event] = [each for each in acme.events if isinstance(each, AcmeAccountEvent)]
        assert (event.act, event.external_account) == ("made", "build")
        assert made.location.endswith(event.acme_account)

    def test_required(self, client: AcmeClient) -> None:
        """Without one there is no account, but a key that has one finds it without a binding."""
        answer = client.register()
        assert (answer.status, answer.problem) == (403, "externalAccountRequired")
        made = register(client)
        assert client.register().location == made.location
        assert client.register(onlyReturnExisting=True).status == 200

    def test_who_decides(self, acme: Serving, client: AcmeClient) -> None:
        """A block that needs an address alone makes it optional, unless the configuration requires it."""
        acme.blocks = (BOUND, block(("ip", "127.0.0.1"), ("domain", "**")))
        acme.requires_external_account = False
        assert client.register().status == 201

    def test_several(self, acme: Serving, client: AcmeClient) -> None:
        """An external account may have several accounts, unless its block says otherwise."""
        assert register(client).status == 201
        with acme.client() as second:
            assert register(second).status == 201

    @pytest.mark.threat("ACME clients", "an external account used twice")
    def test_one(self, acme: Serving, client: AcmeClient) -> None:
        """With `eab-once`, it has one at a time: the next key gets none until that is deactivated."""
        acme.blocks = (FOR_ONE,)
        made = register(client)
        assert made.status == 201
        with acme.client() as second:
            answer = register(second)
            assert (answer.status, answer.problem) == (403, "unauthorized")
            assert register(client).location == made.location
            assert client.post(made.location, {"status": "deactivated"}).status == 200
            assert register(second).status == 201

    def test_a_file(self, acme: Serving, client: AcmeClient, tmp_path: Path) -> None:
        """The HMAC key may be in a file; where that is broken, the client hears that it is not its fault."""
        file = tmp_path / "hmac"
        acme.blocks = (block(("eab-kid", "build"), ("eab-hmac-key-file", str(file)), ("domain", "**")),)
        answer = register(client)
        assert (answer.status, answer.problem) == (503, "serverInternal")
        assert str(tmp_path) not in answer.body.decode()
        file.write_text(b64(SECRET) + "\n")
        assert register(client).status == 201


class TestBindings:
    @pytest.mark.threat("ACME clients", "external accounts that are guessed or stolen")
    def test_wrong_secrets(self, client: AcmeClient) -> None:
        """An unknown external account and a wrong HMAC key are the same answer."""
        wrong = register(client, secret=bytes(32))
        unknown = register(client, kid="nobody")
        of_nobody = register(client, kid="nobody", secret=bytes(32))
        assert (wrong.status, wrong.problem) == (403, "unauthorized")
        assert wrong.json == unknown.json == of_nobody.json

    @pytest.mark.parametrize(
        ("changed", "problem"),
        [
            ({"key": OTHER}, "malformed"),
            ({"url": "https://elsewhere.example.org/new-account"}, "malformed"),
            ({"nonce": "abc"}, "malformed"),
            ({"kid": None}, "malformed"),
            ({"kid": None, "jwk": jwk_of(OTHER)}, "malformed"),
            ({"jwk": jwk_of(OTHER)}, "malformed"),
            ({"crit": ["url"]}, "malformed"),
            ({"alg": "none"}, "badSignatureAlgorithm"),
            ({"alg": "ES256"}, "badSignatureAlgorithm"),
            ({"alg": "HS1"}, "badSignatureAlgorithm"),
        ],
    )
    def test_what_is_no_binding(self, client: AcmeClient, changed: dict[str, Any], problem: str) -> None:
        """Key, URL, algorithm and form are checked, and there is no nonce inside."""
        assert register(client, **changed).problem == problem

    @pytest.mark.parametrize("member", [None, "text", {}, [], {"protected": "e30"}])
    def test_what_is_no_jws(self, client: AcmeClient, member: Any) -> None:
        """Anything else in its place is malformed."""
        assert client.register(externalAccountBinding=member).problem == "malformed"

    @pytest.mark.threat("ACME clients", "external accounts that are guessed or stolen")
    def test_of_another_registration(self, acme: Serving, client: AcmeClient) -> None:
        """Who has seen a binding on its way cannot register a key of his own with it."""
        seen = binding("build", SECRET, client.directory["newAccount"], client.key)
        with acme.client() as thief:
            assert thief.register(externalAccountBinding=seen).problem == "malformed"


class TestMethod:
    def test_what_it_accepts(self) -> None:
        """It accepts exactly the accounts that are bound to it, and says why it accepts no other."""
        method = ExternalAccountMethod("build", Secret(b64(SECRET)))
        caller = Caller(None, None)
        assert method.accepts(caller.of_account("build"), b"")
        for other in (caller, caller.of_account("other"), caller.of_account("")):
            assert not method.may_accept(other)
            assert "build" in str(method.refusal(other, b""))

    @pytest.mark.parametrize("length", [32, 33, 34, 64])
    @pytest.mark.parametrize("padding", ["", "=", "=="])
    def test_keys(self, length: int, padding: str) -> None:
        """Padding of base64url is no part of a key."""
        assert ExternalAccountMethod("a", Secret(b64(bytes(length)) + padding)).hmac_key() == bytes(length)

    @pytest.mark.parametrize(
        "pairs",
        [
            [("eab-kid", "a")],
            [("eab-hmac-key", b64(SECRET))],
            [("eab-once", "yes")],
            [("eab-kid", ""), ("eab-hmac-key", b64(SECRET))],
            [("eab-kid", "a b"), ("eab-hmac-key", b64(SECRET))],
            [("eab-kid", "a"), ("eab-hmac-key", b64(bytes(31)))],
            [("eab-kid", "a"), ("eab-hmac-key", "+" * 44)],
            [("eab-kid", "a"), ("eab-hmac-key", b64(SECRET)), ("eab-hmac-key-file", "/k")],
        ],
    )
    def test_mistakes(self, pairs: list[tuple[str, str]]) -> None:
        """What does not make an external account is an error, whose words do not show the key."""
        with pytest.raises(ConfigurationError) as raised:
            block(*pairs, ("domain", "**"))
        assert b64(SECRET) not in str(raised.value)
        assert b64(bytes(31)) not in str(raised.value)

    def test_files(self, tmp_path: Path) -> None:
        """A file that is missing, or holds no key, is told with its name."""
        file = tmp_path / "key"
        method = ExternalAccountMethod("a", None, file)
        for content in (None, b"short", b"\xff" * 44):
            if content is not None:
                file.write_bytes(content)
            with pytest.raises(StorageUnavailable, match=str(file)):
                method.hmac_key()
