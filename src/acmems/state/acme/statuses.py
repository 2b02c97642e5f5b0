"""How the objects of an ACME server may change (RFC 8555 section 7.1.6), as tables."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class ClientOrderStatus(enum.StrEnum):
    """The statuses of an order."""

    PENDING = "pending"
    READY = "ready"
    PROCESSING = "processing"
    VALID = "valid"
    INVALID = "invalid"


class ClientAuthorizationStatus(enum.StrEnum):
    """The statuses of an authorization."""

    PENDING = "pending"
    VALID = "valid"
    INVALID = "invalid"
    DEACTIVATED = "deactivated"
    EXPIRED = "expired"


class ClientChallengeStatus(enum.StrEnum):
    """The statuses of a challenge."""

    PENDING = "pending"
    PROCESSING = "processing"
    VALID = "valid"
    INVALID = "invalid"


_Order, _Authorization, _Challenge = ClientOrderStatus, ClientAuthorizationStatus, ClientChallengeStatus

ORDER_STEPS: Final[Mapping[ClientOrderStatus, frozenset[ClientOrderStatus]]] = {
    _Order.PENDING: frozenset({_Order.READY, _Order.INVALID}),
    _Order.READY: frozenset({_Order.PROCESSING, _Order.INVALID}),
    _Order.PROCESSING: frozenset({_Order.VALID, _Order.INVALID}),
    _Order.VALID: frozenset(),
    _Order.INVALID: frozenset(),
}
"""What an order may become. Some clients fail on one that is `ready` again after it was finalized."""

AUTHORIZATION_STEPS: Final[Mapping[ClientAuthorizationStatus, frozenset[ClientAuthorizationStatus]]] = {
    _Authorization.PENDING: frozenset(
        {_Authorization.VALID, _Authorization.INVALID, _Authorization.DEACTIVATED, _Authorization.EXPIRED}
    ),
    _Authorization.VALID: frozenset({_Authorization.DEACTIVATED, _Authorization.EXPIRED}),
    # The diagram of the RFC has no such step, but some clients deactivate what has failed.
    _Authorization.INVALID: frozenset({_Authorization.DEACTIVATED}),
    _Authorization.DEACTIVATED: frozenset(),
    _Authorization.EXPIRED: frozenset(),
}
"""What an authorization may become."""

CHALLENGE_STEPS: Final[Mapping[ClientChallengeStatus, frozenset[ClientChallengeStatus]]] = {
    _Challenge.PENDING: frozenset({_Challenge.PROCESSING}),
    _Challenge.PROCESSING: frozenset({_Challenge.VALID, _Challenge.INVALID}),
    _Challenge.VALID: frozenset(),
    _Challenge.INVALID: frozenset(),
}
"""What a challenge may become."""
