"""Commands that act: what they want is handed to the running server, or done here where none runs."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from acmems import app
from acmems.commands.terminal import note
from acmems.config import Configuration
from acmems.exceptions import ActFailed
from acmems.frontends.control import place
from acmems.frontends.control.client import hand_over
from acmems.frontends.control.listener import who_is
from acmems.state.engines.sqlite import StateInUse
from acmems.state.opening import claim_state
from acmems.system.clock import SYSTEM

_START_SECONDS = 10.0  # for which a server may take from its lock to its socket, or another command to act
_LOOK_SECONDS = 0.2


def act(
    config: Configuration, name: str, arguments: Mapping[str, Any], *, proves: bool = False
) -> Mapping[str, Any]:
    """Have something done, and return what has come of it.

    Args:
        config: says which account it is about.
        name: one of `acmems.frontends.acts.performing.ACTS`.
        arguments: what the act takes, as JSON values.
        proves: whether names may have to be proved.

    Raises:
        AcmeException: why it was not done.
    """
    directory = config.home
    deadline = SYSTEM.deadline(_START_SECONDS)
    while True:
        answer = hand_over(directory, name, arguments, _progress)
        if answer is not None:
            return answer
        with _sole(directory) as is_sole:
            if is_sole and _is_state_free(config):
                with app.acting(config, proves=proves, account=arguments.get("account")) as server:
                    return server.perform(name, arguments, who_is(os.geteuid()), _progress)
        if deadline.passed:
            raise ActFailed(
                f"a server or another command uses the account in {directory}, and takes no acts at the "
                f"moment: try again"
            )
        time.sleep(_LOOK_SECONDS)


def _is_state_free(config: Configuration) -> bool:
    """Tell whether no server has the state, which may just be about to take acts."""
    try:
        claim = claim_state(config.state, config.home)
    except StateInUse:
        return False
    if claim.lock is not None:
        os.close(claim.lock)
    return True


@contextlib.contextmanager
def _sole(directory: Path) -> Iterator[bool]:
    """Keep servers and other commands from acting meanwhile; tell whether that worked."""
    try:
        lock = place.locked(directory)
    except OSError as error:
        raise ActFailed(f"{directory / place.LOCK} cannot be locked: {error.strerror or error}") from error
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)


def _progress(words: str) -> None:
    note(f"acmems: {words}")
