"""Names to be certified, their one normal form, and the globs that grant them."""

from __future__ import annotations

import enum
import fnmatch
import ipaddress
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import idna

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LABEL_LETTERS = re.compile(r"[a-z0-9-]+")
_GLOB_LABEL = re.compile(r"[a-z0-9*?-]+")
_WILDCARD = "*."
_ACE_PREFIX = "xn--"
_NO_TEXT = ("Cc", "Cs")  # control characters and surrogates
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
_LONGEST_NAME = 253  # octets of a name in text (RFC 1035 section 2.3.4: 255 on the wire)
LONGEST_LABEL = 63  # octets (RFC 1035 section 2.3.4)


class IdentifierType(enum.StrEnum):
    """The kinds of names that ACME certifies (RFC 8555 section 9.7.7, RFC 8738)."""

    DNS = "dns"
    IP = "ip"


@dataclass(frozen=True, order=True, slots=True)
class Identifier:
    """A name to be certified, in normal form: make it with `dns` or `ip`.

    Args:
        type: what kind of name it is.
        value: lower-case A-labels, wildcards with their `*.`; the shortest text of an IP address.
    """

    type: IdentifierType
    value: str

    @classmethod
    def dns(cls, text: str) -> Self:
        """Normalise a DNS name, a wildcard name such as `*.example.org` included.

        Args:
            text: the name; international labels as `xn--` A-labels (RFC 5890 section 2.3.2.1).

        Raises:
            ValueError: it is not a host name; the reason is safe to print.
        """
        if not text.isascii():  # before lower(), which would turn a Kelvin sign into a k
            raise ValueError(f"{_quoted(text)} is not ASCII: write international names with xn-- labels")
        value = text.lower()
        fault = _name_fault(value)
        if fault is not None:
            raise ValueError(f"{_quoted(text)} is not a DNS name: {fault}")
        return cls(IdentifierType.DNS, value)

    @classmethod
    def ip(cls, text: str) -> Self:
        """Normalise an IP address (RFC 8738 section 3, RFC 5952).

        Args:
            text: the address, without scope, brackets or prefix length.

        Raises:
            ValueError: it is not an address; the reason is safe to print.
        """
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise ValueError(f"{_quoted(text)} is not an IP address") from None
        if isinstance(address, ipaddress.IPv6Address):
            if address.scope_id is not None:
                raise ValueError(f"{_quoted(text)} has a scope, which means something to one machine only")
            if address.ipv4_mapped is not None:  # one address, one spelling
                raise ValueError(f"{_quoted(text)} is an IPv4 address in IPv6 form: write it as IPv4")
        return cls(IdentifierType.IP, address.compressed)

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every name one label below its base."""
        return self.value.startswith(_WILDCARD)

    @property
    def base(self) -> str:
        """The name without `*.`, which is what the CA looks up."""
        return self.value.removeprefix(_WILDCARD)

    def __str__(self) -> str:
        return self.value


def named(text: str) -> Identifier:
    """Return the identifier that a text stands for: an IP address, or else a DNS name.

    Raises:
        ValueError: it is neither; the reason is safe to print.
    """
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return Identifier.dns(text)
    return Identifier.ip(text)


def is_name(text: str) -> bool:
    """Tell whether a text is an identifier in normal form, and no wildcard."""
    try:
        found = named(text)
    except ValueError:
        return False
    return found.value == text and not found.is_wildcard


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern of DNS names, matched label by label: make it with `parse`.

    `*` and `?` never match a dot. `**` stands for one or more whole labels and is only known as the
    first label. A wildcard name is granted only by its own text, by `**` before its base or a parent of
    it, or by `**` alone.

    Args:
        text: the pattern in the normal form of names.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Normalise a pattern; Unicode labels become A-labels.

        Raises:
            ValueError: no name could ever match, or it is unclear which; the reason is safe to print.
        """
        labels = [_glob_label(label, text) for label in text.split(".")]
        if "**" in labels[1:] or any("**" in label and label != "**" for label in labels):
            raise ValueError(f"{_quoted(text)}: '**' can only be the whole first label")
        value = ".".join(labels)
        if len(value) > _LONGEST_NAME:
            raise ValueError(f"{_quoted(text)} is longer than {_LONGEST_NAME} characters")
        if labels[-1].isdigit():
            raise ValueError(f"{_quoted(text)} ends in a number; globs match DNS names, not IP addresses")
        return cls(value)

    def matches(self, identifier: Identifier) -> bool:
        """Tell whether this pattern grants a name."""
        if identifier.type is not IdentifierType.DNS:
            return False
        if identifier.is_wildcard:
            return self._matches_wildcard(identifier)
        patterns = self.text.split(".")
        labels = identifier.value.split(".")
        if patterns[0] == "**":
            below = len(labels) - len(patterns) + 1  # how many labels '**' stands for
            if below < 1:
                return False
            patterns, labels = patterns[1:], labels[below:]
        # fnmatch's third special character, '[', is in no pattern.
        return len(labels) == len(patterns) and all(map(fnmatch.fnmatchcase, labels, patterns))

    def _matches_wildcard(self, identifier: Identifier) -> bool:
        """Tell whether this pattern grants all that a wildcard stands for, and says so by its stars."""
        parent = self.text.removeprefix("**")
        stars = parent != self.text
        return self.text == identifier.value or (stars and f".{identifier.base}".endswith(parent))


def subject_alt_name_option(identifiers: Iterable[Identifier]) -> str:
    """Return the option by which `openssl req -new` asks for names, to be copied to a shell."""
    kinds = {IdentifierType.DNS: "DNS", IdentifierType.IP: "IP"}
    names = ",".join(f"{kinds[identifier.type]}:{identifier.value}" for identifier in identifiers)
    return f"-addext 'subjectAltName={names}'"


def _name_fault(value: str) -> str | None:
    """Say what keeps a lower-case ASCII text from being a host or wildcard name."""
    if len(value) > _LONGEST_NAME:
        return f"it is longer than {_LONGEST_NAME} characters"
    labels = value.removeprefix(_WILDCARD).split(".")
    for label in labels:
        fault = _label_fault(label)
        if fault is not None:
            return fault
    if labels[-1].isdigit():
        return "it ends in a number, as only IP addresses do"
    return None


def _label_fault(label: str) -> str | None:
    """Say what keeps a lower-case ASCII text from being a label (RFC 1123 section 2.1, RFC 5890)."""
    if _LABEL.fullmatch(label):
        if label.startswith(_ACE_PREFIX) and not _decodes(label):
            return "a label starts with xn-- but does not decode to text in NFC"
        return None
    if not label:
        return "a label is empty (is there a dot too many?)"
    if len(label) > LONGEST_LABEL:
        return f"a label is longer than {LONGEST_LABEL} characters"
    if "*" in label:
        return "'*' can only be the whole first label"
    if not _LABEL_LETTERS.fullmatch(label):
        return "only letters, digits and hyphens can be used"
    return "a label starts or ends with a hyphen"


def _decodes(label: str) -> bool:
    """Tell whether a label is the Punycode (RFC 3492) of text in NFC.

    Public CAs ask for no more. What IDNA 2008 disallows beyond that, emoji say, some registries delegate.
    No text has two labels: each step of the decoding can be undone in one way, but for a delimiter with
    nothing before it, which encoders leave out.
    """
    encoded = label.removeprefix(_ACE_PREFIX)
    if encoded.startswith("-"):
        return False
    try:
        text = encoded.encode("ascii").decode("punycode")
    except ValueError:  # a UnicodeError
        return False
    return unicodedata.is_normalized("NFC", text) and not any(
        unicodedata.category(character) in _NO_TEXT for character in text
    )


def _ace(text: str) -> str:
    """Return the label for a text: its Punycode with a prefix, where it is not ASCII."""
    return text if text.isascii() else _ACE_PREFIX + text.encode("punycode").decode("ascii")


def _glob_label(label: str, text: str) -> str:
    """Normalise one label of the glob `text`."""
    value = label.lower()
    if not value.isascii():
        if "*" in value or "?" in value:
            raise ValueError(f"{_quoted(text)}: '*' and '?' cannot stand beside non-ASCII letters in a label")
        try:
            value = _ace(_mapped(label))
        except (ValueError, IndexError):  # idna's errors are UnicodeErrors
            raise ValueError(f"{_quoted(text)} holds a label that is no international name") from None
    if "*" not in value and "?" not in value:
        fault = _label_fault(value)
    elif not _GLOB_LABEL.fullmatch(value):
        fault = "only letters, digits, hyphens, '*' and '?' can be used"
    else:
        fault = None
    if fault is not None:
        raise ValueError(f"{_quoted(text)} is not a glob for DNS names: {fault}")
    return value


def _mapped(label: str) -> str:
    """Map a Unicode label as browsers do (UTS #46 section 4, with CheckJoiners).

    Raises:
        ValueError, IndexError: no label has such characters, or joiners in such a place.
    """
    mapped = idna.uts46_remap(label)
    for place, character in enumerate(mapped):
        if character in _JOINERS and not idna.valid_contextj(mapped, place):
            raise ValueError("a joiner that joins nothing")
    return mapped


def _quoted(text: str) -> str:
    """Quote a stranger's text for a message: ASCII, no control characters, not endless."""
    longest = 80
    return ascii(text if len(text) <= longest else text[:longest] + "...")
