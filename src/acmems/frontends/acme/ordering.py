"""All resources that have to do with orders and certificates, put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from acmems.frontends.acme.accounts.orders_list import OrderIds
from acmems.frontends.acme.certificates.alternates import AlternateResource
from acmems.frontends.acme.certificates.downloading import CertificateResource
from acmems.frontends.acme.certificates.renewal_info import RenewalInfoResource
from acmems.frontends.acme.certificates.revoking import RevocationResource, Revoke
from acmems.frontends.acme.linker import RouteName
from acmems.frontends.acme.orders.challenges import ChallengeTrials
from acmems.frontends.acme.orders.finalizing import FinalizeResource
from acmems.frontends.acme.orders.looking import AuthorizationResource, OrderResource
from acmems.frontends.acme.orders.parts import OrderParts, in_steps
from acmems.frontends.acme.orders.placing import NewOrderResource
from acmems.frontends.acme.orders.profiles import offered_profiles
from acmems.frontends.acme.orders.progress import HOLD_SECONDS, OrderProgress
from acmems.frontends.acme.routes import PlainResource, SignedResource
from acmems.net.http import Exchange


@dataclass(frozen=True, slots=True)
class OrderResources:
    """The resources of orders, by the names of their routes.

    Args:
        plain: those that nobody signs requests to.
        signed: the other ones.
        ids: returns the ids of an account's orders.
        profiles: returns what orders may name as their profile, and what that is.
        forget: removes from the state what has expired; called from time to time.
    """

    plain: dict[RouteName, PlainResource]
    signed: dict[RouteName, SignedResource]
    ids: OrderIds
    profiles: Callable[[], dict[str, str]]
    forget: Callable[[], None]

    @classmethod
    def of(
        cls,
        parts: OrderParts,
        revoke: Revoke,
        client_of: Callable[[Exchange], str],
        *,
        hold_seconds: float = HOLD_SECONDS,
    ) -> OrderResources:
        """Put them together.

        Args:
            parts: what they work with.
            revoke: revokes chains.
            client_of: returns what the log calls the client of a request.
            hold_seconds: how long who looks at an order that is processed may be kept waiting.
        """
        progress = OrderProgress(parts, hold_seconds=hold_seconds)
        trials = ChallengeTrials(parts, hold_seconds=hold_seconds)
        loop = parts.loop
        signed: dict[RouteName, SignedResource] = {
            "new-order": in_steps(loop, NewOrderResource(parts, progress)),
            "order": in_steps(loop, OrderResource(parts, progress, trials)),
            "finalize": in_steps(loop, FinalizeResource(parts, progress)),
            "authorization": in_steps(loop, AuthorizationResource(parts, trials)),
            "challenge": in_steps(loop, trials),
            "certificate": in_steps(loop, CertificateResource(parts, progress)),
            "alternate": in_steps(loop, AlternateResource(parts)),
            "revoke": in_steps(loop, RevocationResource(parts, revoke)),
        }

        def forget() -> None:
            parts.orders.forget(parts.now)
            parts.certificates.forget(parts.now)
            parts.alternates.forget(parts.now)

        plain: dict[RouteName, PlainResource] = {"renewal-info": RenewalInfoResource(parts, client_of)}
        return cls(
            plain,
            signed,
            lambda account, after, most: parts.orders.ids_of(account, parts.now, after, most),
            lambda: offered_profiles(parts.issuances),
            forget,
        )
