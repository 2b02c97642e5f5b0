"""What a reload may change, and what needs a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from acmems.auth.methods import HmacAuthMethod
from acmems.challenges.dns01_server import DnsServer
from acmems.config import Configuration
from acmems.frontends.delivery import SigningPolicy
from acmems.net.http import UNFINISHED_BYTES, HttpLimits
from acmems.settings.findings import Finding

# A little less than what clients wait, so that they hear the reason and not only that it is late.
_PATIENCE = 0.95


@dataclass(frozen=True, slots=True)
class Generation:
    """What one configuration says of requests, made once; a reload puts another one in its place, as a whole.

    Args:
        config: the configuration.
        policy: who may ask for what, and how long a client waits.
        http: how long clients and their requests may take.
    """

    config: Configuration
    policy: SigningPolicy
    http: HttpLimits

    @classmethod
    def of(cls, config: Configuration, is_revoked: Callable[[str], bool]) -> Generation:
        """Return what a configuration says.

        Args:
            config: the configuration.
            is_revoked: tells of a client certificate whether it is known to be revoked.
        """
        seconds = config.mgmt.request_timeout
        auth = replace(config.auth, is_revoked=is_revoked)
        policy = SigningPolicy(auth, seconds * _PATIENCE, config.account.subject)
        unfinished = max(UNFINISHED_BYTES, 8 * config.mgmt.max_size)
        return cls(config, policy, HttpLimits(request_seconds=seconds, unfinished_bytes=unfinished))


def restart_needed(before: Configuration, after: Configuration) -> list[Finding]:
    """Return what a running server cannot change from one configuration to another, where it stands.

    Args:
        before: what it goes by.
        after: what it is to go by.
    """
    return sorted(
        [
            *_account(before, after),
            *_local_cas(before, after),
            *_state(before, after),
            *_processes(before, after),
            *_zones(before, after),
        ]
    )


def _account(before: Configuration, after: Configuration) -> Iterator[Finding]:
    for name in before.accounts.keys() - after.accounts.keys():
        yield Finding(
            before.where("account", name, "dir"),
            f'[account "{name}"] cannot be removed by a reload: restart acmems',
        )
    for name, account in after.accounts.items():
        if name not in before.accounts:
            yield Finding(
                after.where("account", name, "dir"),
                f'[account "{name}"] cannot be added by a reload: restart acmems',
            )
            continue
        old = before.accounts[name].fixed
        for key, value in account.fixed.items():
            if value != old[key]:
                yield Finding(
                    after.where("account", name or None, key),
                    f"'{key}' cannot be changed by a reload: restart acmems",
                )


def _local_cas(before: Configuration, after: Configuration) -> Iterator[Finding]:
    for name in before.local_cas.keys() - after.local_cas.keys():
        words = f"{before.local_cas[name].section} cannot be removed by a reload: restart acmems"
        yield Finding(before.where("local-ca", name, "dir"), words)
    for name, local_ca in after.local_cas.items():
        if name not in before.local_cas:
            words = f"{local_ca.section} cannot be added by a reload: restart acmems"
            yield Finding(after.where("local-ca", name, "dir"), words)
        elif local_ca.fixed != before.local_cas[name].fixed:
            words = "'dir' cannot be changed by a reload: restart acmems"
            yield Finding(after.where("local-ca", name, "dir"), words)


def _state(before: Configuration, after: Configuration) -> Iterator[Finding]:
    now = after.state
    if replace(before.state, keep_events=now.keep_events, keep_chains=now.keep_chains) != now:
        key = after.state.key or "url"
        yield Finding(
            after.where("state", None, key), f"'{key}' cannot be changed by a reload: restart acmems"
        )


def _processes(before: Configuration, after: Configuration) -> Iterator[Finding]:
    if before.mgmt.processes != after.mgmt.processes:
        yield Finding(
            after.where("mgmt", None, "processes"),
            "'processes' cannot be changed by a reload: restart acmems",
        )


def _zones(before: Configuration, after: Configuration) -> Iterator[Finding]:
    """Yield sections whose zone is another one: running orders have their proofs in that of before."""
    for name, new in after.validators.items():
        old = before.validators.get(name)
        if isinstance(old, DnsServer) and isinstance(new, DnsServer) and old.zone != new.zone:
            yield Finding(
                after.where("verification", name, "zone"),
                "'zone' cannot be changed by a reload: restart acmems, or add a section for the new zone",
            )


def carry_over(before: Configuration, after: Configuration) -> None:
    """Let blocks go on to know which HMACs were used: a reload must not let them be used again.

    Args:
        before: what the server goes by.
        after: what it goes by from now on.
    """
    former = _fresh(before)
    for (name, _), new in _fresh(after).items():
        same = [place for place, old in former.items() if old.secret == new.secret]
        # Of the block of that name, or of one that has got another name.
        for place in sorted(same, key=lambda place: place[0] != name)[:1]:
            memory = former.pop(place).freshness
            if memory is not None and new.freshness is not None:
                memory.seconds = new.freshness.seconds
                new.freshness = memory


def _fresh(config: Configuration) -> dict[tuple[str, int], HmacAuthMethod]:
    """Return the methods that remember HMACs, by the name of their block and their position there."""
    return {
        (block.name, position): method
        for block in config.auth.blocks
        for position, method in enumerate(block.methods)
        if isinstance(method, HmacAuthMethod) and method.freshness is not None
    }
