"""One answer of a web server that strangers run, out of bytes, without I/O (RFC 9112)."""

from __future__ import annotations

import httptools

from acmems.frontends.acme.problems import AcmeProblem

LONGEST_BODY = 4096  # a key authorization has about 90 octets
_LONGEST_HEAD = 16 * 1024
_MOST = 64 * 1024  # of everything, interim answers and what is between chunks included
_FINAL = 200


class HttpAnswer:
    """Takes bytes until it has seen enough.

    Attributes:
        status: the status code, once the head is there.
        location: the value of the last `Location` header.
        is_encoded: whether the body is compressed, although it was asked not to be.
        body: as much of the body as came, up to a little over `LONGEST_BODY`.
        is_enough: whether nothing further needs to be read.
    """

    def __init__(self) -> None:
        self.status = 0
        self.location: str | None = None
        self.is_encoded = False
        self.body = b""
        self.is_enough = False
        self._has_head = False
        self._fed = 0
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take bytes as they came; none at all are the end of the connection.

        Raises:
            AcmeProblem: they are no answer to HTTP/1.1, or too many.
        """
        if not data:
            if not self._has_head:
                raise AcmeProblem("connection", "the connection ends before an answer")
            self.is_enough = True
            return
        self._fed += len(data)
        if self._fed > (_MOST if self._has_head else _LONGEST_HEAD):
            raise AcmeProblem("incorrectResponse", "the answer has too many headers or too many small parts")
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self.is_enough:
                raise AcmeProblem("incorrectResponse", "the answer is no HTTP/1.1") from None
        if len(self.body) > LONGEST_BODY:
            self.is_enough = True

    def on_message_begin(self) -> None:
        """Begin an answer, after an interim one maybe."""
        self.location, self.is_encoded = None, False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field."""
        match name.lower():
            case b"location":
                self.location = value.decode("latin-1").strip(" \t")
            case b"content-encoding":
                self.is_encoded = value.strip(b" \t").lower() not in {b"", b"identity"}

    def on_headers_complete(self) -> None:
        """Note the status of an answer that is not interim (RFC 9110 section 15.2)."""
        status = self._parser.get_status_code()
        if status >= _FINAL:
            self.status, self._has_head = status, True

    def on_body(self, data: bytes) -> None:
        """Take a part of the body, its chunks put together."""
        if len(self.body) <= LONGEST_BODY:
            self.body += data

    def on_message_complete(self) -> None:
        """Note the end."""
        self.is_enough = self._has_head
