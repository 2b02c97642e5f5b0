"""HTTP/1.1 responses as bytes (RFC 9112 section 4)."""

from __future__ import annotations

import email.utils
import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What is answered.

    Args:
        status: the HTTP status.
        body: the content.
        content_type: its media type.
        headers: further header fields; names and values are this server's own words.
        links: the values of `Link` fields, each of which gets a line of its own: some clients read no lists.
    """

    status: int
    body: bytes = field(repr=False)
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    links: tuple[str, ...] = ()

    def encoded(self, *, close: bool, bodiless: bool = False) -> bytes:
        """Return the bytes that go to the client.

        Args:
            close: whether the connection is closed afterwards.
            bodiless: whether only the head is sent, as for HEAD (RFC 9110 section 9.3.2).
        """
        lines = [
            f"HTTP/1.1 {self.status} {phrase(self.status)}",
            "Server: acmems",
            f"Date: {http_date(int(time.time()))}",
            *self._content_fields,
            *(f"{name}: {value}" for name, value in self.headers.items()),
            *(f"Link: {value}" for value in self.links),
        ]
        if close:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
        return head if bodiless else head + self.body

    @property
    def _content_fields(self) -> tuple[str, ...]:
        if self.status in {HTTPStatus.NOT_MODIFIED, HTTPStatus.NO_CONTENT}:
            return ()  # no content, and so no length (RFC 9110 section 8.6)
        return f"Content-Type: {self.content_type}", f"Content-Length: {len(self.body)}"


def phrase(status: int) -> str:
    """Return the reason phrase of an HTTP status."""
    return _PHRASES.get(status, "Error")


@functools.lru_cache(maxsize=4)
def http_date(seconds: int) -> str:
    """Return a time as in a `Date` header (RFC 9110 section 5.6.7); many responses share each second.

    Args:
        seconds: since 1970.
    """
    return email.utils.formatdate(seconds, usegmt=True)
