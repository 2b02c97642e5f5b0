"""One HTTP/1.1 response out of bytes, without any I/O (RFC 9112 sections 4 to 8)."""

from __future__ import annotations

import httptools

from acmems.exceptions import CAProtocolError
from acmems.issuers.acme.session.responses import Headers, Response

_LONGEST_HEAD = 64 * 1024
_FINAL = 200  # statuses below are interim ones: another answer follows (RFC 9110 section 15.2)
_SWITCHING = 101  # after it something other than HTTP follows


class BrokenResponse(Exception):
    """What came is no answer, or not the whole of one."""


class ResponseReader:
    """Takes the bytes that follow a request and gives out the answer; interim ones before it are read past.

    Args:
        url: what was asked.
        max_size: bytes that the body may have.
        bodiless: whether the answer has no body whatever it says, as that to a HEAD.
    """

    def __init__(self, url: str, max_size: int, *, bodiless: bool = False) -> None:
        self._url = url
        self._max_size = max_size
        self._bodiless = bodiless
        self._fields = _ResponseRecorder()
        self._parser = self._fields.parser = httptools.HttpResponseParser(self._fields)
        self._fed = 0

    @property
    def complete(self) -> bool:
        """Whether the answer is here."""
        return self._fields.complete or (self._bodiless and self._fields.head_complete)

    @property
    def keeps(self) -> bool:
        """Whether the connection can be used for another request."""
        if self._bodiless:  # llhttp does not know that, and thinks that a body without a length may come
            return (self._fields.headers.field("Connection") or "keep-alive").lower() == "keep-alive"
        return self._fields.complete and self._fields.keeps and not self._fields.more

    def feed(self, data: bytes) -> None:
        """Take bytes as they came; none at all are the end of the connection.

        Raises:
            BrokenResponse: they are no answer, or end too early.
            CAProtocolError: the answer is one that nobody wants.
        """
        if not data:
            self._end()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # Once the answer is whole, what follows it is nobody's, and the connection is not used again.
            if not self.complete:
                raise BrokenResponse("its answer is not HTTP") from None
            self._fields.more = True
        self._fed += len(data)
        self._check()

    def response(self) -> Response:
        """Return the response, once it is complete."""
        body = b"" if self._bodiless else b"".join(self._fields.body)
        return Response(self._fields.status, self._fields.headers, body, self._url)

    def _end(self) -> None:
        if not self._fed:
            raise BrokenResponse("it closed the connection without response")
        headers = self._fields.headers
        has_length = headers.field("Content-Length") or headers.field("Transfer-Encoding")
        if not self._fields.head_complete or has_length is not None:
            raise BrokenResponse("its answer is cut short")
        self._fields.complete = self._fields.more = True

    def _check(self) -> None:
        fields = self._fields
        if not fields.head_complete:
            if self._fed > _LONGEST_HEAD:
                raise BrokenResponse("the head of its answer is too long")
            return
        if fields.status == _SWITCHING:
            raise CAProtocolError(f"the CA answers {_SWITCHING}, which nobody asked for")
        if (fields.headers.field("Content-Encoding") or "identity").lower() != "identity":
            raise CAProtocolError(f"the CA's answer from {self._url} is compressed, which nobody asked for")
        if fields.size > self._max_size:
            raise CAProtocolError(f"the CA's answer from {self._url} is longer than {self._max_size} bytes")


class _ResponseRecorder:
    """What llhttp reports of one answer."""

    __slots__ = ("body", "complete", "head_complete", "headers", "keeps", "more", "parser", "size", "status")

    parser: httptools.HttpResponseParser

    def __init__(self) -> None:
        self.status = 0
        self.keeps = False
        self.headers = Headers()
        self.body: list[bytes] = []
        self.size = 0
        self.head_complete = False
        self.complete = False
        self.more = False  # something follows the answer, or it ends with the connection

    def on_message_begin(self) -> None:
        self.more = self.complete

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_complete:  # else a trailer
            self.headers.add(name, value)

    def on_headers_complete(self) -> None:
        if self.head_complete:  # of another answer that came along
            return
        self.head_complete = True
        # Only here: the parser forgets both at the end of the message.
        self.status = self.parser.get_status_code()
        self.keeps = bool(self.parser.should_keep_alive())

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self.size += len(data)
            self.body.append(data)

    def on_message_complete(self) -> None:
        if self.status >= _FINAL or self.status == _SWITCHING:
            self.complete = True
        elif not self.complete:
            self.headers, self.head_complete = Headers(), False
