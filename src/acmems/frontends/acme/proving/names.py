"""What auth blocks have ACME clients prove, and whether they have."""

from __future__ import annotations

from concurrent.futures import Future

from acmems.auth import Block
from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.proving.prover import Prover
from acmems.frontends.acme.proving.validation import Validation
from acmems.x509.identifiers import Identifier


class NameProver:
    """Lets clients prove names, as the `prove` of auth blocks wants it.

    Args:
        prover: looks at what they present.
    """

    def __init__(self, prover: Prover) -> None:
        self._prover = prover

    def wanted(self, block: Block, identifier: Identifier) -> tuple[str, ...]:
        """Return the types of challenges by which a name may be proved; none where nothing is to be proved.

        Raises:
            ValueError: the block wants a proof that this name cannot have; the reason is for the client.
        """
        if (refusal := block.proof.refusal(identifier)) is not None:
            raise ValueError(refusal)
        return block.proof.types_for(identifier)

    def prove(
        self, kind: str, identifier: Identifier, token: str, thumbprint: str
    ) -> Future[AcmeProblem | None]:
        """Look for the proof of a name.

        Args:
            kind: the type of the challenge.
            identifier: the name; a wildcard name with its `*.`.
            token: what the challenge has told.
            thumbprint: that of the account's key, which makes the key authorization with the token.

        Returns:
            a future; it has what is wrong with the proof, None where the name is proved. What it raises says
            nothing of the proof.

        Raises:
            AcmeProblem: too many proofs are being looked for.
        """
        return self._prover.prove(Validation(kind, identifier, token, f"{token}.{thumbprint}", thumbprint))
