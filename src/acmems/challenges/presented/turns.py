"""ProofTurns of orders that prove one name by what shows the CA only one proof at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from acmems.challenges.contract import Proof, Validator
from acmems.exceptions import CAUnavailable, DeadlinePassed
from acmems.system.clock import Deadline
from acmems.system.steps import Signal, Steps
from acmems.x509.identifiers import Identifier

_Place = tuple[str, Identifier]  # the type of challenge: all validators of a type show from one table


@dataclass(slots=True, eq=False)
class _Order:
    """An order that waits for its turn."""

    proofs: dict[_Place, Proof]
    wake: Signal = field(default_factory=Signal)
    has_turn: bool = False


class ProofTurns:
    """Lets one proof for a name be presented at a time, by validators that can show only one.

    By tls-alpn-01 a server has one certificate for each name that the CA asks for (RFC 8737 section 3): a
    second order's proof would hide that of the first, and the CA would refuse both. Orders that share a
    proof share its turn. An order takes its turn for all of its names at once, so that no two can wait for
    each other, and in the order of arrival wherever they have a name in common. For the loop's thread.
    """

    def __init__(self) -> None:
        self._shown: dict[_Place, Counter[Proof]] = {}
        self._queue: list[_Order] = []
        self._is_stopped = False

    def take(self, shown: Sequence[tuple[Validator, Sequence[Proof]]], deadline: Deadline) -> Steps[None]:
        """Return when an order may present its proofs; every turn that is taken is to be left.

        Args:
            shown: each validator with all that it presents for the order.
            deadline: when to give up.

        Raises:
            DeadlinePassed: others are not done in time.
            CAUnavailable: the server stops.
        """
        taken = {
            _place(validator, proof): proof
            for validator, proofs in shown
            if validator.shows_one_at_a_time
            for proof in proofs
        }
        if not taken:
            return
        order = _Order(taken)
        self._queue.append(order)
        self._grant()
        try:
            if not order.has_turn and not self._is_stopped:
                yield order.wake.wait(deadline.remaining)
        finally:
            if not order.has_turn:
                self._queue.remove(order)
                self._grant()
        if not order.has_turn:
            if self._is_stopped:
                raise CAUnavailable("this server is stopping; ask again")
            names = ", ".join(proof.identifier.value for proof in taken.values())
            raise DeadlinePassed(f"other requests have not yet proved {names}", retry_after=10.0)

    def leave(self, validator: Validator, proofs: Sequence[Proof]) -> None:
        """Let the next go on: an order's proofs are withdrawn, or were not presented.

        Args:
            validator: as for `take`.
            proofs: some or all of what `take` was given for it.
        """
        if not validator.shows_one_at_a_time:
            return
        for proof in proofs:
            place = _place(validator, proof)
            shown = self._shown[place]
            shown[proof] -= 1
            if not shown.total():
                del self._shown[place]
        self._grant()

    def stop(self) -> None:
        """End all waiting, now and from now on."""
        self._is_stopped = True
        for order in self._queue:
            order.wake.set()

    def _grant(self) -> None:
        """Give a turn to all who can have one; nobody overtakes an earlier one with a name in common."""
        left: list[_Order] = []
        claimed: set[_Place] = set()
        for order in self._queue:
            if claimed.isdisjoint(order.proofs) and all(map(self._is_free, order.proofs.items())):
                for place, proof in order.proofs.items():
                    self._shown.setdefault(place, Counter())[proof] += 1
                order.has_turn = True
                order.wake.set()
            else:
                claimed.update(order.proofs)
                left.append(order)
        self._queue = left

    def _is_free(self, entry: tuple[_Place, Proof]) -> bool:
        place, proof = entry
        return place not in self._shown or self._shown[place][proof] > 0


def _place(validator: Validator, proof: Proof) -> _Place:
    return validator.challenge_type, proof.identifier
