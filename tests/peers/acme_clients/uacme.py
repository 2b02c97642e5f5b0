"""uacme, a client in C on libcurl and GnuTLS."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from tests.peers.acme_clients.contract import Ability, ExternalAccount, ForeignClient
from tests.peers.process import APART, apart
from tests.peers.web import Nginx

TRUSTED = b"/etc/ssl/certs/ca-certificates.crt"
HOOK = """#!/bin/sh
[ "$1" != begin ] || {prover} "_acme-challenge.$3" "$5"
"""
WEB_HOOK = """#!/bin/sh
[ "$2" = http-01 ] || exit 1
mkdir -p web/.well-known/acme-challenge
[ "$1" != begin ] || printf %s "$5" > "web/.well-known/acme-challenge/$4"
"""
SITE = "server {{ listen {socket}; root {folder}/web; }}"
LIBRARY = "libcurl-gnutls.so.4"


def write_library(folder: Path, ca_file: Path) -> None:
    """Write a libcurl that trusts this file where its program runs in this folder."""
    shutil.copy(ca_file, folder / "trusted.pem")
    [library] = APART.glob(f"usr/lib/*-linux-gnu*/{LIBRARY}")
    path = b"trusted.pem".ljust(len(TRUSTED), b"\0")
    (folder / LIBRARY).write_bytes(library.read_bytes().replace(TRUSTED, path))


class Uacme(ForeignClient):
    """uacme with a hook, and with nginx where it has to be listening.

    It trusts whom its libcurl was built to trust, so it gets a copy of that library with another path inside.
    """

    name = "uacme"
    abilities = frozenset(Ability) - {Ability.REPLACEMENT}
    listens = frozenset({"http-01"})

    def prepare(self) -> None:
        """Write the library that trusts the server."""
        write_library(self.folder, self.directory.ca_file)

    def register(self, external: ExternalAccount | None) -> None:
        """Create an account."""
        binding = ["--eab", f"{external.kid}:{external.key}"] if external else []
        self.uacme(*binding, "new", "admin@example.org")

    def order(self, *names: str) -> bytes:
        """Get a certificate."""
        with self._web():
            self.uacme("issue", *names)
        return self._chain(names)

    def renew(self, *names: str) -> bytes:
        """Get another certificate."""
        (self.folder / "uacme" / "private" / names[0] / "key.pem").unlink()
        with self._web():
            self.uacme("--force", "issue", *names)
        return self._chain(names)

    def revoke(self, *names: str) -> None:
        """Revoke the certificate."""
        self.uacme("--reason", "4", "revoke", f"uacme/{names[0]}/cert.pem")

    def uacme(self, *arguments: str) -> str:
        """Run it, without questions."""
        text = HOOK.format(prover=self.directory.prover) if self.listening is None else WEB_HOOK
        hook = self.program("prove", text)
        options = ("--confdir", "uacme", "--acme-url", self.directory.url, "--hook", str(hook), "--yes")
        return self.run(*apart("uacme", libraries=self.folder), "--verbose", *options, *arguments)

    def _web(self) -> contextlib.AbstractContextManager[object]:
        if self.listening is None:
            return contextlib.nullcontext()
        site = SITE.format(socket=self.listening.socket, folder=self.folder)
        return Nginx(80, sites=site, address=self.listening.address)

    def _chain(self, names: tuple[str, ...]) -> bytes:
        return (self.folder / "uacme" / names[0] / "cert.pem").read_bytes()
