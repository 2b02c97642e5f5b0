"""What a user of 0.3 has goes on unchanged: configuration, account directory, certificate cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from acme import client, errors, messages
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from josepy.jwk import JWKRSA
from tests.chains import make_chain
from tests.fault_proxy import FaultProxy
from tests.faults import FINALIZE, NEW_ACCOUNT, NEW_ORDER
from tests.peers import Acmems, Pebble, curl_sign, free_port, hmac_header, make_key_and_csr, names_of
from tests.peers import curl as ask

from acmems.x509 import csr as requests

# Every section and key of 0.3, as its documentation shows them.
CONFIGURATION = """
[account]
# the ACME server to use
acme-server = {directory_url}
; first the terms of last year
accept-terms-of-service = https://ca.example/terms/of/last/year
accept-terms-of-service = {terms}
dir = {folder}/account/

[mgmt]
mgmt=127.0.0.1:{port}
max-size = 4k
default-verification = http
default-storage = file

[verification "http"]
type = http01
listener=127.0.0.1:{challenge_port}

[verification "dns"]
type = dns01-dnsUpdate
dns-server=127.0.0.1
ttl=5
timeout=30

[storage "none"]
type = none

[storage "file"]
type = file
directory={folder}/storage
renew-within=14

[auth "office"]
ip=127.0.0.0/8
domain=*.office.example.org
domain=mail.example.org

[auth "elsewhere"]
ip=192.0.2.0/24
domain=*.example.org

[auth "signed"]
verification = http
storage = none
hmac_type=sha256
hmac_key=an-old-shared-secret
domain=signed?.example.org

[auth "by dns"]
ip=192.0.2.53
verification = dns
domain=dns.example.org
"""

PEM = serialization.Encoding.PEM
PLAIN = serialization.NoEncryption()
PKCS8 = serialization.PrivateFormat.PKCS8
PKCS1 = serialization.PrivateFormat.TraditionalOpenSSL
NAME = "www.office.example.org"


def of_2016(registration: messages.RegistrationResource, key: JWKRSA) -> str:
    """Return a registration as python-acme wrote it for the first ACME draft: with members since gone."""
    body = {
        "agreement": registration.terms_of_service,
        "contact": ["mailto:hostmaster@example.org"],
        "key": key.public_key().to_json(),
    }
    outer = {"new_authzr_uri": "https://ca.example/acme/new-authz", "uri": registration.uri}
    return json.dumps({"body": body, "terms_of_service": registration.terms_of_service, **outer})


def of_today(registration: messages.RegistrationResource, _: JWKRSA) -> str:
    """Return a registration as python-acme writes it today."""
    return str(registration.json_dumps())


class Site:
    """A machine on which 0.3 ran.

    Attributes:
        text: its configuration.
        registration: its account at the CA.
    """

    def __init__(self, folder: Path, proxy: FaultProxy, key: JWKRSA, challenge_port: int) -> None:
        self.account, self.storage = folder / "account", folder / "storage"
        for directory in (self.account, self.storage):
            directory.mkdir(mode=0o700)
        self.proxy = proxy
        self.key = key
        self.registration = self._register()
        self.text = CONFIGURATION.format(
            directory_url=proxy.directory_url,
            terms=self.registration.terms_of_service,
            folder=folder,
            port=free_port(),
            challenge_port=challenge_port,
        )

    def _register(self) -> messages.RegistrationResource:
        """Make the account as 0.3 did: by python-acme's own client."""
        network = client.ClientNetwork(self.key)
        network.session.trust_env = False
        network.verify_ssl = str(self.proxy.ca_file)  # type: ignore[assignment]  # requests takes a file, too
        directory = client.ClientV2.get_directory(self.proxy.directory_url, network)
        new = messages.NewRegistration.from_data(terms_of_service_agreed=True)
        try:
            made = client.ClientV2(directory, network).new_account(new)
        except errors.ConflictError as known:  # an earlier test has registered the key
            made = messages.RegistrationResource(uri=known.location, body=messages.Registration())
        return messages.RegistrationResource(
            uri=made.uri, body=made.body, terms_of_service=directory.meta.terms_of_service
        )

    def write_account(
        self,
        form: serialization.PrivateFormat = PKCS8,
        write: Callable[[messages.RegistrationResource, JWKRSA], str] = of_2016,
    ) -> None:
        """Write the account directory."""
        (self.account / "account.pem").write_bytes(self.key.key.private_bytes(PEM, form, PLAIN))
        (self.account / "account.pem").chmod(0o600)
        (self.account / "registration.json").write_text(write(self.registration, self.key))

    def entry(self, body: bytes) -> Path:
        """Return the folder that 0.3 to 0.5 keep a CSR's chain in."""
        digest = hashlib.sha384(body).hexdigest()
        return self.storage / digest[:2] / digest[2:]

    def write_chain(self, csr: Path, days: int) -> bytes:
        """Write a chain for a CSR, which ends in so many days, to the cache; return it."""
        body = csr.read_bytes()
        pem: bytes = make_chain(requests.parse(body, requests.Rules()), days).pem
        self.entry(body).mkdir(parents=True)
        (self.entry(body) / "csr.pem").write_bytes(body)
        (self.entry(body) / "cert.pem").write_bytes(pem)
        return pem

    def serve(self) -> Acmems:
        """Return a server with the configuration as it is; the CA's HTTPS is trusted by the system."""
        return Acmems(self.text, env={"SSL_CERT_FILE": str(self.proxy.ca_file)})

    def count(self, path: str) -> int:
        return self.proxy.count(path=path)


@pytest.fixture(scope="module")
def key() -> JWKRSA:
    """The account key of 0.3: RSA with 4096 bits."""
    return JWKRSA(key=rsa.generate_private_key(public_exponent=65537, key_size=4096))


@pytest.fixture
def site(pebble: Pebble, proxy: FaultProxy, tmp_path: Path, key: JWKRSA) -> Site:
    """A machine with an account at the CA, and nothing else yet."""
    return Site(tmp_path, proxy, key, pebble.http_port)


@pytest.fixture
def csr(tmp_path: Path) -> Path:
    """The signing request of a machine in the office."""
    return make_key_and_csr(tmp_path, [NAME])[1]


@pytest.mark.parametrize(
    ("form", "write"), [(PKCS1, of_2016), (PKCS8, of_today)], ids=["of 2016", "of today"]
)
def test_the_account_goes_on(
    site: Site, csr: Path, form: serialization.PrivateFormat, write: Callable[..., str]
) -> None:
    """Key and registration as 0.3 left them are used, the account is the same, and none is made."""
    site.write_account(form, write)
    before = (site.account / "account.pem").read_bytes()
    made = site.count(NEW_ACCOUNT)
    with site.serve() as acmems:
        assert curl_sign(acmems.sign_url, csr).status == 200
    assert site.count(NEW_ACCOUNT) == made
    assert (site.account / "account.pem").read_bytes() == before
    text = (site.account / "registration.json").read_text()
    assert messages.RegistrationResource.json_loads(text).uri == site.registration.uri


def test_an_account_without_its_registration(site: Site, csr: Path) -> None:
    """Where only the key is left the CA is asked for its account, and that one goes on."""
    site.write_account()
    (site.account / "registration.json").unlink()
    with site.serve() as acmems:
        assert curl_sign(acmems.sign_url, csr).status == 200
    text = (site.account / "registration.json").read_text()
    assert messages.RegistrationResource.json_loads(text).uri == site.registration.uri


def test_the_cache_is_delivered(site: Site, csr: Path) -> None:
    """The same CSR bytes get the chain that 0.3 stored, and the CA is asked for no order."""
    site.write_account()
    stored = site.write_chain(csr, days=60)
    with site.serve() as acmems:
        reply = curl_sign(acmems.sign_url, csr)
    assert (reply.status, reply.body) == (200, stored)
    assert site.count(NEW_ORDER) == 0


def test_a_chain_that_is_due_is_renewed(site: Site, csr: Path) -> None:
    """A cached chain that is expired, or ends within `renew-within`, is replaced by a new one."""
    site.write_account()
    _, due = make_key_and_csr(csr.parent, ["mail.example.org"], stem="due")
    with site.serve() as acmems:
        for asked, days, name in [(csr, -1, NAME), (due, 13, "mail.example.org")]:
            stored = site.write_chain(asked, days)
            reply = curl_sign(acmems.sign_url, asked)
            assert reply.status == 200
            assert reply.body != stored
            assert names_of(reply.body) == {name}
            assert curl_sign(acmems.sign_url, asked).body == reply.body
    assert site.count(FINALIZE) == 2


def test_an_expired_chain_is_never_delivered(site: Site, csr: Path) -> None:
    """Where the CA fails, a cached chain that is still valid is delivered, and an expired one is not."""
    site.write_account()
    _, due = make_key_and_csr(csr.parent, ["mail.example.org"], stem="due")
    site.write_chain(csr, days=-1)
    valid = site.write_chain(due, days=3)
    site.proxy.when(path=NEW_ORDER).problem(503, "serverInternal")
    site.text = site.text.replace("[mgmt]", "[mgmt]\nrequest-timeout = 60", 1)  # longer than the CA is tried
    with site.serve() as acmems:
        assert curl_sign(acmems.sign_url, csr).status == 503
        assert curl_sign(acmems.sign_url, due).body == valid


def test_0_5_reads_what_is_added(site: Site, csr: Path) -> None:
    """A new chain lies where 0.3 to 0.5 look for it: SHA-384 of the body, `csr.pem` and `cert.pem`."""
    site.write_account()
    with site.serve() as acmems:
        reply = curl_sign(acmems.sign_url, csr)
    entry = site.entry(csr.read_bytes())
    assert (entry / "csr.pem").read_bytes() == csr.read_bytes()
    assert (entry / "cert.pem").read_bytes() == reply.body
    assert reply.status == 200


def test_policy_goes_on(site: Site, csr: Path, tmp_path: Path) -> None:
    """Auth blocks of 0.3 grant what they granted: by address, HMAC and glob, with storages of their own."""
    site.write_account()
    _, signed = make_key_and_csr(tmp_path, ["signed1.example.org"], stem="signed")
    _, other = make_key_and_csr(tmp_path, ["other.example.org"], stem="other")
    claim = hmac_header(signed, "an-old-shared-secret")
    with site.serve() as acmems:
        statuses = [
            curl_sign(acmems.sign_url, csr).status,
            ask(acmems.sign_url, "-H", claim, "--data-binary", f"@{signed}").status,
            curl_sign(acmems.sign_url, signed).status,
            curl_sign(acmems.sign_url, other).status,
        ]
    assert statuses == [200, 200, 403, 403]
    assert not site.entry(signed.read_bytes()).exists()
