"""Doing what a command asks for, and telling that it was done, or why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from acmems.events import AdministeredEvent
from acmems.exceptions import AcmeException, ActFailed
from acmems.frontends.acts.contract import Act, ActArguments, ActingParts
from acmems.frontends.acts.deactivation import deactivate_account
from acmems.frontends.acts.renewal import renew_certificate
from acmems.frontends.acts.revocation import revoke_certificate
from acmems.frontends.acts.rotation import rotate_key
from acmems.text import one_line

ACTS: Final[Mapping[str, Act]] = {
    "rotate-key": rotate_key,
    "deactivate": deactivate_account,
    "renew": renew_certificate,
    "revoke": revoke_certificate,
}
"""What may be asked for."""

COMMAND_LINE = "command line"
"""What events have as the client of an act."""


class Performer:
    """Does what commands ask for.

    Args:
        parts: what acts work on.
    """

    def __init__(self, parts: ActingParts) -> None:
        self._parts = parts

    def __call__(
        self,
        act: str,
        arguments: Mapping[str, Any],
        who: str,
        progress: Callable[[str], None],
        *,
        client: str = COMMAND_LINE,
    ) -> Mapping[str, Any]:
        """Do what is asked for, and return what the command prints with `--json`.

        Args:
            act: one of `ACTS`.
            arguments: what it takes.
            who: the number and the name of the user who asks.
            progress: told how it gets on.
            client: where that user is.

        Raises:
            ActFailed: there is no such act.
            AcmeException: why it was not done.
        """
        if act not in ACTS:
            known = ", ".join(ACTS)
            raise ActFailed(
                f"the server cannot do {one_line(act, 40)!r}, but {known}: is it of another version?"
            )
        parts = self._parts
        party = parts.accounts.party(str(arguments.get("account") or "")) or parts.accounts.first
        account = party.issuance.issuer
        # Who reads later what was done must not take a question for an act.
        told = f"{act} --dry-run" if arguments.get("dry_run") is True else act
        known_of: dict[str, Any] = {"reference": "-", "client": client, "act": told, "who": who}
        try:
            done = ACTS[act](parts, ActArguments(arguments), progress)
        except AcmeException as error:
            reason = one_line(error, 2000)
            parts.bus.emit(
                AdministeredEvent(outcome="failed", reason=reason, account=account.account_url, **known_of)
            )
            raise
        parts.bus.emit(
            AdministeredEvent(
                outcome="done",
                reason=done.reason,
                names=done.names,
                account=account.account_url,
                **known_of,
            )
        )
        return done.document
