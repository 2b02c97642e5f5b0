"""What front ends read from files: certificates and tokens, read anew when they change."""

from __future__ import annotations

import datetime
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from acmems.auth import Authenticator
from acmems.config import Configuration
from acmems.exceptions import ConfigurationError
from acmems.frontends.own.files import ensure
from acmems.frontends.tls.expiry import Expiry, expiry_of
from acmems.frontends.tls.files import Signature, UnusableTls, context_of, read_material, signature_of
from acmems.frontends.tls.options import TlsOptions
from acmems.net.tls import ServerTls, TlsMaterial
from acmems.settings.findings import Finding
from acmems.system.clock import SYSTEM, Clock
from acmems.system.threads import PeriodicThread

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Between two looks whether files have changed."""
_TELL_AGAIN = datetime.timedelta(days=1)


@dataclass(slots=True)
class FrontEndTls:
    """The TLS of one front end.

    Args:
        section: the kind of its section.
        options: what that says.
        signature: of the files when they were last looked at.
        material: the certificate that is shown.
        tls: encrypts connections.
    """

    section: str
    options: TlsOptions
    signature: Signature
    material: TlsMaterial
    tls: ServerTls


class WatchedFiles:
    """Keeps the TLS of front ends, and the tokens of auth blocks, as their files are.

    Args:
        clock: time.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._told: dict[str, datetime.datetime] = {}  # when the log was told of a certificate's end
        self._lock = threading.Lock()  # guards what follows
        self._auth = Authenticator()
        self._kept: tuple[FrontEndTls, ...] = ()
        self._thread = PeriodicThread(
            "acmems-files", self.look, LOOK_SECONDS, delay=LOOK_SECONDS, clock=clock
        )
        self._is_started = False

    @property
    def threads(self) -> tuple[PeriodicThread, ...]:
        """What looks at files, where there are any."""
        return (self._thread,) if self._is_started else ()

    def prepare(self, config: Configuration) -> Mapping[str, FrontEndTls]:
        """Return the TLS that a configuration asks for, by the kinds of sections; nothing changes.

        Raises:
            ConfigurationError: a file cannot be used.
        """
        prepared, findings = {}, [*_token_findings(config)]
        for section, options in config.tls.items():
            try:
                if options.name is not None:
                    ensure(options, self._clock.now())
                prepared[section] = _read(section, options)
            except UnusableTls as error:
                findings.append(Finding(config.where(section, None, error.key), str(error)))
        if findings:
            raise ConfigurationError(findings)
        return prepared

    def commit(self, prepared: Mapping[str, FrontEndTls], auth: Authenticator) -> None:
        """Look after files from now on.

        Args:
            prepared: the TLS of front ends.
            auth: the auth blocks, some of which may have files of tokens.
        """
        with self._lock:
            self._kept, self._auth = tuple(prepared.values()), auth
        if (self._kept or auth.has_files) and not self._is_started:
            self._is_started = True
            self._thread.start()

    def look(self) -> None:
        """Read anew what has changed; what cannot be used leaves all as it is."""
        with self._lock:
            kept, auth = self._kept, self._auth
        auth.refresh()
        self._tell()
        for each in kept:
            signature = signature_of(each.options)
            if signature == each.signature:
                continue
            each.signature = signature
            try:
                anew = _read(each.section, each.options)
            except UnusableTls as error:
                logger.warning("[%s] %s; the certificate of before is still shown", each.section, error)
                continue
            each.material, each.tls.context = anew.material, anew.tls.context
            logger.info(
                "[%s] the certificate of this server was read anew, valid until %s",
                *(each.section, each.material.not_after.isoformat()),
            )

    @property
    def shown(self) -> tuple[TlsOptions, ...]:
        """What each front end shows its certificate by."""
        with self._lock:
            return tuple(each.options for each in self._kept)

    @property
    def expiries(self) -> list[Expiry]:
        """What is wrong with the certificates that are shown."""
        with self._lock:
            kept = self._kept
        found = [expiry_of(each.section, each.material, self._clock.now()) for each in kept]
        return [each for each in found if each is not None]

    def _tell(self) -> None:
        """Say once a day which certificates are at their end."""
        now = self._clock.now()
        for each in self.expiries:
            if each.words not in self._told or now - self._told[each.words] >= _TELL_AGAIN:
                self._told[each.words] = now
                logger.warning("%s: see why nobody has renewed it", each.words)

    def close(self) -> None:
        """Look no more."""
        if self._is_started:
            self._thread.close()


def _token_findings(config: Configuration) -> Iterator[Finding]:
    """Yield the files of tokens that cannot be used, having read all of them."""
    config.auth.refresh()
    for block in config.auth.blocks:
        for key, words in block.self_check():
            yield Finding(config.where("auth", block.name, key), f"{key}: {words}")


def _read(section: str, options: TlsOptions) -> FrontEndTls:
    """Return the TLS of a front end.

    Raises:
        UnusableTls: a file cannot be used.
    """
    signature = signature_of(options)
    material = read_material(options)
    return FrontEndTls(section, options, signature, material, ServerTls(context_of(options, material)))
