"""A local CA as an issuer: it signs at once what policy has accepted."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from acmems.challenges import Validator
from acmems.exceptions import LocalCaUnusable
from acmems.issuers.local.authority import IssuingAuthority
from acmems.issuers.local.files import LocalCaDirectory
from acmems.issuers.local.options import LocalCaOptions
from acmems.issuers.local.profiles import CRL_LIFETIME, ENDS_SOON, RevokedCertificate
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.system.steps import StepLoop, Steps
from acmems.x509.chain import OfferedChain
from acmems.x509.csr import CertificateRequest

logger = logging.getLogger(__name__)

RENEW_CRL = CRL_LIFETIME / 14
"""How old a list of revoked certificates becomes before there is a newer one."""


class LocalIssuer:
    """Turns certificate requests into chains by the keys of a local CA; for any thread.

    A certificate that was signed and not stored, because the process was killed, is lost without harm: nobody
    has it, and whoever asks again gets another one.

    Args:
        options: the CA.
        clock: for dates.

    Attributes:
        loop: runs the steps.
    """

    account_url: None = None
    alternates: None = None
    preparing: None = None
    silence: float = 0.0

    def __init__(self, options: LocalCaOptions, clock: Clock = SYSTEM) -> None:
        self.options = options
        self.directory = LocalCaDirectory(options.dir)
        self.loop = StepLoop(clock, name="acmems-local-ca", threads=1)
        self._clock = clock
        self._authority: IssuingAuthority | None = None
        self._key_digest: str | None = None
        self._lock = threading.Lock()  # guards what follows
        self._revoked: frozenset[RevokedCertificate] | None = None
        self._crl: bytes | None = None
        self._crl_number = 0
        self._crl_due = clock.now()

    @property
    def key_digest(self) -> str | None:
        """The SHA-256 of its public key, None while it is not loaded: nobody gets a certificate for that."""
        return self._key_digest

    @property
    def authority(self) -> IssuingAuthority:
        """What signs.

        Raises:
            LocalCaUnusable: it is not loaded.
        """
        if self._authority is None:
            raise LocalCaUnusable(f"the keys of {self.options.section} are not loaded")
        return self._authority

    def load(self) -> None:
        """Read the keys and certificates, anew if they are loaded.

        Raises:
            LocalCaUnusable: they cannot be used, or are of another root than before.
        """
        authority = self.directory.load()
        if self._authority is not None and authority.root != self._authority.root:
            raise LocalCaUnusable(f"{self.directory.root_file} is another root: restart acmems to use it")
        if authority == self._authority:
            return
        if not authority.permits.holds(self.options.permits):
            logger.warning(
                "%s permits more than its certificates do, which were made for %s: what they do not permit "
                "is not issued",
                *(self.options.section, authority.permits),
            )
        spki = authority.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self._authority, self._key_digest = authority, hashlib.sha256(spki).hexdigest()

    def reconfigure(self, options: LocalCaOptions) -> None:
        """Go by other options from now on, and by another intermediate of the same root if there is one.

        Args:
            options: those; `LocalCaOptions.fixed` must be the same.
        """
        self.options = options
        before = self._authority
        if before is None:
            return
        try:
            self.load()
        except LocalCaUnusable as error:
            logger.error(  # noqa: TRY400 - its words tell all
                "%s goes on with the keys that it has: %s", options.section, error
            )
        if self._authority is not before:
            self._revoked = None  # so that the list is signed anew

    def obtain(
        self,
        request: CertificateRequest,
        validators: Sequence[Validator],  # noqa: ARG002 - nothing is proved to a CA of one's own
        deadline: Deadline,  # noqa: ARG002 - it takes no time
        identity: str,  # noqa: ARG002 - nothing is left open
        terms: object = None,  # noqa: ARG002 - no limits are counted
        *,
        prepared: str | None = None,  # noqa: ARG002 - nothing is prepared
    ) -> Steps[OfferedChain]:
        """Return a new chain in PEM: the leaf and the intermediate.

        Args:
            request: what is asked for.
            validators: not needed.
            deadline: not needed.
            identity: not needed.
            terms: not needed.
            prepared: not needed.

        Raises:
            InvalidDomainName: it may not issue for a name.
            PayloadInvalid: it does not issue such certificates.
            LocalCaUnusable: its keys are not loaded, or its intermediate has expired.
        """
        yield from ()
        options = self.options
        return OfferedChain(
            self.authority.issue(
                request,
                self._clock.now(),
                permits=options.permits,
                lifetime=options.lifetime,
                crl_url=options.crl_url,
            )
        )

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """The certificates of root and intermediate; none while they are not loaded."""
        return () if self._authority is None else (self._authority.root, self._authority.certificate)

    @property
    def root_pem(self) -> bytes | None:
        """The root's certificate in PEM, None while it is not loaded."""
        return None if self._authority is None else self._authority.root_pem

    @property
    def crl(self) -> bytes | None:
        """The list of revoked certificates in DER; None while it is not known which are."""
        return self._crl

    def publish(self, revoked: Iterable[RevokedCertificate]) -> None:
        """Sign a list of revoked certificates, unless there is one that says the same and is new enough.

        Args:
            revoked: those that are.
        """
        now, entries = self._clock.now(), frozenset(revoked)
        with self._lock:
            if entries == self._revoked and now < self._crl_due:
                return
            # Of the time, so that it grows over restarts and among servers that share the keys.
            self._crl_number = max(self._crl_number + 1, int(now.timestamp() * 1000))
            ordered = sorted(entries, key=lambda each: (each.at, each.serial))
            self._crl = self.authority.crl(ordered, self._crl_number, now)
            self._revoked, self._crl_due = entries, now + RENEW_CRL
        end = self.authority.certificate.not_valid_after_utc
        if end - now < ENDS_SOON:
            logger.warning(
                "the intermediate certificate of %s ends at %s, and no certificate is valid for longer: move "
                "it and its key away, run 'acmems ca init', and reload acmems",
                *(self.options.section, f"{end:%Y-%m-%d}"),
            )

    def close(self) -> None:
        """Let go of threads."""
        self.loop.close()
