"""Revoking certificates, which are never delivered again: `acmems revoke`."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from acmems.exceptions import ActFailed, CAProblem, StorageUnavailable
from acmems.frontends.acts.contract import ActArguments, ActingParts, ActOutcome, Progress
from acmems.frontends.acts.finding import find_current
from acmems.issuers.acme.certificates.revocation import REASONS, UNSPECIFIED
from acmems.state.chains import ChainRecord
from acmems.storages import Discarding, Storage
from acmems.x509 import chain as chains
from acmems.x509.chain import Chain

logger = logging.getLogger(__name__)

KEY_COMPROMISE = "keyCompromise"
_CA_SECONDS = 120.0
_SPREAD_SECONDS = 35.0  # servers that share a state look every 30 seconds for what others have revoked


def revoke_certificate(parts: ActingParts, arguments: ActArguments, progress: Progress) -> ActOutcome:
    """Revoke one certificate at the CA.

    That it must not be delivered any more is noted before the CA is asked: it never is once the CA may have
    revoked it, whenever this process is killed.

    Args:
        parts: what it works on.
        arguments: `name`: a name, a serial number or a fingerprint; or `certificate`: a chain in PEM.
            `account`: whose CA has issued that, where it is not the one of [account]. `reason`: one of
            `REASONS`; that of an earlier try unless given.
        progress: told what has been done.

    Raises:
        ActFailed: it is not clear what is meant, or the CA refuses.
        AcmeException: the certificate was not revoked, or it could not be noted.
    """
    given = arguments.text("reason")
    if given is not None and given not in REASONS:
        raise ActFailed(f"there is no reason {given!r}: {', '.join(REASONS)} are")
    record = _meant(parts, arguments)
    reason = given or record.reason or UNSPECIFIED
    _stop_delivery(parts, record, reason, progress)
    progress("the certificate is not delivered any more")
    is_new = _at_ca(parts, record, reason)
    parts.chains.revoked(record.fingerprint, parts.clock.now(), reason).result()
    parts.party_of(record).follow()
    return ActOutcome(
        {
            "names": list(record.names),
            "serial": record.serial,
            "fingerprint": record.fingerprint,
            "issuer": record.directory,
            "reason": reason,
            "was_revoked_before": not is_new or record.revoked is not None,
        },
        record.names,
        reason,
    )


def _meant(parts: ActingParts, arguments: ActArguments) -> ChainRecord:
    """Return the certificate that is to be revoked, which is noted from now on if it was not before."""
    pem = arguments.text("certificate")
    if pem is None:
        return find_current(parts, arguments.required("name"), "revoke", of_history=True)
    try:
        chain = chains.parse_once(pem.encode())
    except ValueError as error:
        raise ActFailed(f"this is no certificate in PEM, leaf first: {error}") from error
    known = [each for each in parts.chains.find(chain.fingerprint) if each.fingerprint == chain.fingerprint]
    return known[0] if known else _adopted(parts, arguments, chain)


def _adopted(parts: ActingParts, arguments: ActArguments, chain: Chain) -> ChainRecord:
    """Take note of a certificate that comes from a file, so that it can be noted that it is revoked."""
    identity = parts.party(arguments).identity
    record = ChainRecord.of(
        chain,
        identity=chain.fingerprint,  # of its own: nobody asks for it by this identity
        directory=identity.directory,
        profile=identity.profile,
        issued=parts.clock.now(),
    )
    parts.chains.adopt([record]).result()
    return record


def _stop_delivery(parts: ActingParts, record: ChainRecord, reason: str, progress: Progress) -> None:
    """Have a certificate delivered never again, from here on and by any storage."""
    parts.chains.revoking(record.fingerprint, reason).result()
    parts.chains.learn_revoked()
    if parts.chains.is_shared:
        progress(f"waiting for {_SPREAD_SECONDS:.0f} seconds, until every server knows that")
        parts.clock.sleep(_SPREAD_SECONDS)
    for storage in _discarding(parts.storages()):
        try:
            storage.discard(record.fingerprint)
        except StorageUnavailable as error:
            # The state knows that it is revoked; only who reads the storage by other means may deliver it.
            logger.warning("a chain that is revoked stays in a storage, and is not delivered: %s", error)


def _discarding(storages: Sequence[Storage]) -> list[Discarding]:
    return [each for each in storages if isinstance(each, Discarding)]


def _at_ca(parts: ActingParts, record: ChainRecord, reason: str) -> bool:
    """Revoke a certificate at the CA, and tell whether it was not revoked before."""
    party, deadline = parts.party_of(record), parts.clock.deadline(_CA_SECONDS)
    certificate, _ = chains.issuers(record.pem)
    try:
        return party.revoke(certificate, reason, deadline)
    except CAProblem as problem:
        advice = "choose another --reason" if problem.code == "badRevocationReason" else "ask the CA"
        raise ActFailed(
            f"the CA does not revoke the certificate ({problem}); it is not delivered any more, but it is "
            f"still valid: {advice}, and repeat the command with its serial number, {record.serial}"
        ) from problem
