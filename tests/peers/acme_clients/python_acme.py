"""python-acme, the library beneath certbot, used as its documentation shows it."""

from __future__ import annotations

import datetime

from acme import client, messages
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from josepy.jwa import ES256, RS256, JWASignature
from josepy.jwk import JWK, JWKEC, JWKRSA
from tests.peers.acme_clients.contract import PATIENCE, Ability, ExternalAccount, ForeignClient
from tests.peers.client import make_key_and_csr

CRL_REASON_SUPERSEDED = 4


class PythonAcme(ForeignClient):
    """A program on python-acme that revokes by the key of the certificate, not by the account."""

    name = "python-acme"
    abilities = frozenset(Ability) - {Ability.REPLACEMENT}

    def prepare(self) -> None:
        """Make the account's key, and read the directory."""
        self._key = JWKRSA(key=rsa.generate_private_key(public_exponent=65537, key_size=2048))
        self._client = self._client_with(self._key, RS256)

    def register(self, external: ExternalAccount | None) -> None:
        """Create an account."""
        binding = None
        if external is not None:
            binding = messages.ExternalAccountBinding.from_data(
                account_public_key=self._key.public_key(),
                kid=external.kid,
                hmac_key=external.key,
                directory=self._client.directory,
            )
        self._client.new_account(
            messages.NewRegistration.from_data(
                email="admin@example.org", terms_of_service_agreed=True, external_account_binding=binding
            )
        )

    def order(self, *names: str) -> bytes:
        """Get a certificate."""
        _, request = make_key_and_csr(self.folder, names, stem=names[0])
        order = self._client.new_order(request.read_bytes())
        for authorization in order.authorizations:
            if authorization.body.status == messages.STATUS_PENDING:
                challenge = next(each for each in authorization.body.challenges if each.typ == "dns-01")
                name = challenge.validation_domain_name(authorization.body.identifier.value)
                self.run(self.directory.prover, name, challenge.validation(self._key))
                self._client.answer_challenge(challenge, challenge.response(self._key))
        deadline = datetime.datetime.now() + datetime.timedelta(seconds=PATIENCE)  # noqa: DTZ005 - it wants that
        done = self._client.poll_and_finalize(order, deadline)
        (self.folder / f"{names[0]}.pem").write_text(done.fullchain_pem, encoding="ascii")
        return done.fullchain_pem.encode()

    def renew(self, *names: str) -> bytes:
        """Ask when to renew, and get another certificate."""
        self._client.renewal_time((self.folder / f"{names[0]}.pem").read_bytes())
        return self.order(*names)

    def revoke(self, *names: str) -> None:
        """Revoke the certificate by its own key."""
        key = serialization.load_pem_private_key((self.folder / f"{names[0]}.key").read_bytes(), None)
        certificate = x509.load_pem_x509_certificate((self.folder / f"{names[0]}.pem").read_bytes())
        owner = self._client_with(JWKEC(key=key), ES256)
        owner.revoke(certificate, CRL_REASON_SUPERSEDED)

    def _client_with(self, key: JWK, algorithm: JWASignature) -> client.ClientV2:
        net = client.ClientNetwork(key, alg=algorithm)
        net.session.trust_env = False
        net.verify_ssl = str(self.directory.ca_file)  # type: ignore[assignment] # requests takes a path, too
        return client.ClientV2(client.ClientV2.get_directory(self.directory.url, net), net)
