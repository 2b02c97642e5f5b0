"""Secrets of a section, which are given there or in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from acmems.notices.contract import NoticeUndelivered
from acmems.settings import values
from acmems.settings.options import Options
from acmems.system.permissions import NamedFile, reason
from acmems.text import Secret

_LARGEST_FILE = 65536


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where a secret is.

    Args:
        key: the key of the section that says so.
        given: the secret, where that is given; None: it is in a file.
        file: the file; its first line counts.
        parse: reads it; the words of its ValueError do not quote it.
    """

    key: str
    given: Secret | None
    file: Path | None
    parse: Callable[[str], Secret]

    def read(self) -> Secret:
        """Return the secret.

        Raises:
            NoticeUndelivered: the file cannot be read, or holds no such secret.
        """
        if self.given is not None:
            return self.given
        if (words := self._trouble()) is not None:
            raise NoticeUndelivered(words)
        return self.parse(self._first_line())

    def self_check(self) -> Iterable[tuple[str, str]]:
        """Say what is wrong with the file."""
        if self.given is None and (words := self._trouble()) is not None:
            yield self.key, words

    def named_files(self) -> Iterable[NamedFile]:
        """Return the file."""
        if self.file is not None:
            yield NamedFile(self.key, self.file, is_secret=True)

    def _trouble(self) -> str | None:
        assert self.file is not None  # noqa: S101 - one of them is given
        try:
            self.parse(self._first_line())
        except OSError as error:
            return f"{self.key}: {self.file} cannot be read: {reason(error, self.file)}"
        except UnicodeDecodeError:
            return f"{self.key}: {self.file} is no text"
        except ValueError as error:
            return f"{self.key}: what {self.file} holds {error}"
        return None

    def _first_line(self) -> str:
        assert self.file is not None  # noqa: S101 - as above
        with self.file.open(encoding="utf-8") as file:
            return file.read(_LARGEST_FILE).partition("\n")[0].strip()


def secret_from(
    options: Options,
    key: str,
    meaning: str,
    parse: Callable[[str], Secret] = values.secret,
    *,
    is_required: bool = False,
) -> SecretSource | None:
    """Read a secret that is given by a key, or in the file that `KEY-file` names.

    Args:
        options: the section.
        key: the key.
        meaning: what it is, for the reference.
        parse: reads it.
        is_required: whether one of both must be given.
    """
    given = options.one(key, parse, None, meaning=meaning)
    file = options.one(
        f"{key}-file", values.path, None, meaning=f"file whose first line is used instead of `{key}`"
    )
    if options.has(key) and options.has(f"{key}-file"):
        options.report(f"'{key}' and '{key}-file' are both given: remove one of them", f"{key}-file")
    if is_required and not options.has(key) and not options.has(f"{key}-file"):
        options.report(f"{options.section} needs '{key} = …' or '{key}-file = …'")
    if given is None and file is None:
        return None
    return SecretSource(key if given is not None else f"{key}-file", given, file, parse)
