"""What today's policy says to a certificate request that was granted before."""

from __future__ import annotations

from acmems.auth import Block
from acmems.exceptions import PolicyRefusal
from acmems.frontends.delivery import SigningPolicy
from acmems.issuing.requests import AcceptedRequest
from acmems.x509 import csr


def granted_again(policy: SigningPolicy, body: bytes, block: str | None) -> AcceptedRequest:
    """Return what an issuance is asked for where nobody asks by HTTP, and policy still grants it.

    Args:
        policy: what holds now.
        body: the certificate request, as the client sent it.
        block: the name of the auth block that granted it.

    Raises:
        PolicyRefusal: it does not grant it any more.
        PayloadInvalid: the certificate request is not acceptable any more.
    """
    request = csr.parse(body, policy.auth.rules)
    names = ", ".join(request.names)
    found: Block | None = next((each for each in policy.auth.blocks if each.name == block), None)
    if found is None:
        raise PolicyRefusal(f"there is no [auth {block!r}] any more, which granted {names}")
    if (refusal := found.refusal(request.identifiers, None)) is not None:
        raise PolicyRefusal(f"[auth {block!r}] does not grant {names} any more: {refusal}")
    return AcceptedRequest(
        request,
        found.validators,
        found.storage,
        block=found.name,
        grants=found.grants,
        most_orders=found.max_orders,
        subject=policy.subject,
        issuers=found.issuers,
    )
