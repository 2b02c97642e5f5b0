"""Ordering a certificate anew, whatever is stored: `acmems renew`."""

from __future__ import annotations

import dataclasses
from typing import Any

from acmems.exceptions import AcmeException, ActFailed, PolicyRefusal
from acmems.frontends.acts.contract import ActArguments, ActingParts, ActOutcome, Progress
from acmems.frontends.acts.finding import find_current
from acmems.frontends.delivery import SigningPolicy
from acmems.frontends.granting import granted_again
from acmems.issuing.failover.issuances import called
from acmems.issuing.requests import AcceptedRequest
from acmems.state.chains import ChainRecord
from acmems.x509 import csr

_SECONDS = 3600.0  # for which a command waits: as long as an order may take
_TRIES = 3  # where somebody else's request brings a chain that was stored before


def renew_certificate(parts: ActingParts, arguments: ActArguments, progress: Progress) -> ActOutcome:
    """Order a certificate anew, as its client would, from the certificate request that is kept.

    Args:
        parts: what it works on.
        arguments: `name`: a name, a serial number or a fingerprint; `block`: the auth block that is to grant
            it, where that is not known; `dry_run`: whether only to say what would be done.
        progress: told what is ordered.

    Raises:
        ActFailed: it is not clear what is meant, or policy does not grant it.
        AcmeException: why there is no new certificate.
    """
    record = find_current(parts, arguments.required("name"), "renew")
    accepted = _accepted(parts, record, arguments.text("block"))
    plan = _plan(parts, record, accepted)
    issuances = parts.accounts.issuances
    if arguments.is_set("dry_run"):
        _check_pauses(parts, accepted)
        return ActOutcome(plan | {"is_ordered": False}, accepted.request.names)
    for each in accepted.issuers:
        issuances.of(each).pauses.retry_paused(accepted)
    progress(f"ordering {', '.join(accepted.request.names)} at {plan['issuer']}")
    for _ in range(_TRIES):
        delivery = issuances.issue(accepted).result()
        if delivery.source != "stored":
            break
    else:
        raise ActFailed(
            "others ask for the same certificate at the moment, and get the stored one: try again"
        )
    new = delivery.chain
    return ActOutcome(
        plan
        | {
            "is_ordered": True,
            "serial": f"{new.serial:x}",
            "fingerprint": new.fingerprint,
            "not_before": new.not_before.isoformat(),
            "not_after": new.not_after.isoformat(),
        },
        accepted.request.names,
    )


def _accepted(parts: ActingParts, record: ChainRecord, block: str | None) -> AcceptedRequest:
    """Return what is asked for, as far as policy grants it today."""
    names = ", ".join(record.names)
    if record.csr is None:
        raise ActFailed(
            f"the certificate request of {names} is not known: only the machine itself can renew its "
            f"certificate, by asking for it"
        )
    policy = parts.policy()
    try:
        wanted = block or record.block or _only_block(policy, record.csr)
        accepted = granted_again(policy, record.csr, wanted)
    except PolicyRefusal as error:
        raise ActFailed(f"{names} is not renewed: {error}") from error
    return dataclasses.replace(accepted, is_wanted_anew=True, seconds=_SECONDS)


def _only_block(policy: SigningPolicy, body: bytes) -> str:
    """Return the one block that grants a certificate request of which nobody knows which one did."""
    identifiers = csr.parse(body, policy.auth.rules).identifiers
    blocks = [each.name for each in policy.auth.blocks if each.refusal(identifiers, None) is None]
    if len(blocks) != 1:
        found = f"these do: {', '.join(map(repr, blocks))}" if blocks else "none does"
        raise ActFailed(
            f"which auth block granted this certificate is not known, and of those of today {found}; name "
            f"one by --block"
        )
    return blocks[0]


def _plan(parts: ActingParts, record: ChainRecord, accepted: AcceptedRequest) -> dict[str, Any]:
    """Return what is done, and what it costs."""
    issuance = parts.accounts.issuances.of(accepted.issuers[0])
    identity = issuance.identity
    return {
        "names": list(accepted.request.names),
        "issuer": identity.directory,
        "profile": identity.profile,
        "account": issuance.issuer.account_url,
        "block": accepted.block,
        "verifications": {
            each.value: [validator.name for validator in accepted.validators if validator.proves(each)]
            for each in accepted.request.identifiers
        },
        "storage": accepted.storage.name,
        "orders": 1,
        "limits": _costs(parts, accepted),
        "replaces": {"serial": record.serial, "not_after": record.not_after.isoformat()},
    }


def _costs(parts: ActingParts, accepted: AcceptedRequest) -> list[dict[str, Any]]:
    """Return what an order with each account takes of the limits that are counted, before one is placed."""
    found, request = [], accepted.request
    for name in accepted.issuers:
        issuance = parts.accounts.issuances.of(name)
        if issuance.limits is not None:
            costs = issuance.limits.costs(issuance.key(request).digest, request.identifiers)
            account = called(name, issuance.identity.directory) if len(accepted.issuers) > 1 else None
            found += [each.document() | {"account": account} for each in costs]
    return found


def _check_pauses(parts: ActingParts, accepted: AcceptedRequest) -> None:
    """Raise what would stop an order with each of the accounts.

    Raises:
        AcmeException: what would stop the first of them, if all would be stopped.
    """
    stopped: list[AcmeException] = []
    for name in accepted.issuers:
        try:
            parts.accounts.issuances.of(name).pauses.check(accepted)
        except AcmeException as error:
            stopped.append(error)
    if len(stopped) == len(accepted.issuers):
        raise stopped[0]
