"""What a test asks of any ACME client, whatever its command line looks like."""

from __future__ import annotations

import abc
import enum
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.peers.process import PeerFailed, environment

PATIENCE = 110
"""Seconds after which a client is ended: more than any of them waits for a server."""


class Ability(enum.Enum):
    """What some clients can and others cannot."""

    EXTERNAL_ACCOUNT = enum.auto()
    """Registers with an external account (RFC 8555, section 7.3.4)."""
    SEVERAL_NAMES = enum.auto()
    """Gets one certificate for several names."""
    WILDCARD = enum.auto()
    """Gets a certificate for a wildcard name where the server asks for no proof."""
    REPLACEMENT = enum.auto()
    """Tells at a renewal which certificate it replaces (RFC 9773, section 5)."""
    PROOF = enum.auto()
    """Proves names by dns-01, through a program that adds a TXT record."""
    REVOCATION = enum.auto()
    """Revokes a certificate."""


@dataclass(frozen=True)
class ExternalAccount:
    """The key that an operator hands to whoever shall register.

    Args:
        kid: its identifier.
        key: its MAC key, as base64url without padding.
    """

    kid: str
    key: str


@dataclass(frozen=True)
class Directory:
    """An ACME server, as its clients are told of it.

    Args:
        url: of its directory.
        ca_file: what its HTTPS is to be checked with, as PEM.
        prover: adds a TXT record, called with its name and value; by default it adds none.
    """

    url: str
    ca_file: Path
    prover: str = "true"


@dataclass(frozen=True)
class Listening:
    """Where a client proves names by itself, at port 80 or 443.

    Args:
        challenge: `http-01` or `tls-alpn-01`.
        address: what it binds to.
    """

    challenge: str
    address: str

    @property
    def socket(self) -> str:
        """The address with the port of this challenge."""
        return f"{self.address}:{80 if self.challenge == 'http-01' else 443}"


class ForeignClient(abc.ABC):
    """One installation of a client: its account, its keys and its certificates, in a folder of its own.

    Args:
        folder: where it keeps everything; exists and is empty.
        directory: the server to ask.

    Attributes:
        name: what people call it.
        abilities: what it can.
        listens: the challenges for which it can listen by itself.
        listening: where it does so, None where it proves by `Directory.prover`.
        external: the external account of a client that registers when it orders.
    """

    name: ClassVar[str]
    abilities: ClassVar[frozenset[Ability]]
    listens: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, folder: Path, directory: Directory) -> None:
        self.folder = folder
        self.directory = directory
        self.external: ExternalAccount | None = None
        self.listening: Listening | None = None
        self.prepare()

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Write what the client needs before anything else."""

    @abc.abstractmethod
    def register(self, external: ExternalAccount | None) -> None:
        """Create an account; a client that does so only when it orders keeps in mind how.

        Args:
            external: the external account to bind it to; MUST be None without `Ability.EXTERNAL_ACCOUNT`.

        Raises:
            PeerFailed: it did not succeed; with what it printed.
        """

    @abc.abstractmethod
    def order(self, *names: str) -> bytes:
        """Get a certificate for all of these names, with a new key.

        Args:
            names: the first is no wildcard.

        Returns:
            The chain, as PEM, leaf first.

        Raises:
            PeerFailed: it did not succeed; with what it printed.
        """

    @abc.abstractmethod
    def renew(self, *names: str) -> bytes:
        """Get another certificate in place of the one that was ordered for these names, with a new key.

        Returns:
            The new chain.

        Raises:
            PeerFailed: it did not succeed; with what it printed.
        """

    def revoke(self, *names: str) -> None:
        """Revoke the certificate for these names.

        Raises:
            PeerFailed: it did not succeed; with what it printed.
            NotImplementedError: it lacks `Ability.REVOCATION`.
        """
        raise NotImplementedError(f"{self.name} does not revoke {names}")

    def run(self, *command: str | Path, env: Mapping[str, str] | None = None) -> str:
        """Run the client's program in its folder, at home there, and return all that it prints.

        Raises:
            PeerFailed: its exit code is not 0, or it does not end.
        """
        try:
            done = subprocess.run(
                list(map(str, command)),
                cwd=self.folder,
                env={**environment(), "HOME": str(self.folder), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired as error:
            printed = (error.stdout or b"").decode(errors="replace")
            raise PeerFailed(f"{self.name} did not end within {PATIENCE} s\n{printed}") from None
        printed = done.stdout.decode(errors="replace")
        if done.returncode:
            raise PeerFailed(f"{self.name} ended with {done.returncode}\n{printed}")
        return printed

    def program(self, name: str, text: str) -> Path:
        """Write a script that the client is to run, such as a hook, and return its path."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
        return path
