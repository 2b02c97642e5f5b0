"""HTTP/1.1 requests out of bytes: what is read, and what is refused, whatever the packets were."""

from __future__ import annotations

import types

import httptools
import pytest

from acmems.exceptions import HttpRefusal
from acmems.net.http import framing
from acmems.net.http.framing import Head, HeadLimits, RequestReader

HOST = b"Host: a.example.org\r\n"


def request(
    *fields: bytes, line: bytes = b"POST /sign HTTP/1.1", host: bytes = HOST, length: bytes | None = b"0"
) -> bytes:
    """Write a head: good, but for what is asked otherwise."""
    lengths = [] if length is None else [b"Content-Length: " + length]
    lines = b"".join(field + b"\r\n" for field in (*lengths, *fields))
    return line + b"\r\n" + host + lines + b"\r\n"


def read(*packets: bytes, limits: HeadLimits | None = None) -> Head | None:
    """Return the head that some packets make, None if it is incomplete."""
    reader = RequestReader(limits or HeadLimits())
    head = None
    for packet in packets:
        reader.feed(packet)
        head = reader.head()
        if head is not None:
            break
    return head


def refusal(*packets: bytes, limits: HeadLimits | None = None) -> HttpRefusal:
    """Return the refusal that some packets get."""
    with pytest.raises(HttpRefusal) as caught:
        read(*packets, limits=limits)
    return caught.value


def good(*packets: bytes) -> Head:
    head = read(*packets)
    assert head is not None
    return head


class TestHeads:
    def test_everything_is_read(self) -> None:
        """Method, target, version, headers and length are what was sent."""
        head = good(request(b"X-Odd:  two words \t", b"x-odd: \xfc", length=b"17"))
        assert (head.method, head.target, head.version) == ("POST", "/sign", (1, 1))
        assert head.headers.items() == [
            ("Host", "a.example.org"),
            ("Content-Length", "17"),
            ("X-Odd", "two words"),
            ("x-odd", "\xfc"),
        ]
        assert head.length == 17
        assert not head.expects_continue

    def test_an_empty_header_does_not_run_into_the_next(self) -> None:
        """A header without a value is a header of its own."""
        assert good(request(b"X:", b"Y: z")).headers.items()[-2:] == [("X", ""), ("Y", "z")]

    @pytest.mark.parametrize(
        "target", [b"//sign", b"/sign?x", b"http://a.example.org/sign", b"*", b"/%2e./%00"]
    )
    def test_targets_are_not_touched(self, target: bytes) -> None:
        """The target is handed on as it was sent, nothing decoded, nothing folded."""
        assert good(request(line=b"POST " + target + b" HTTP/1.1")).target == target.decode()

    def test_empty_lines_before_a_request_are_skipped(self) -> None:
        """Empty lines before a request line are no request (RFC 9112 section 2.2)."""
        assert read(b"\r\n\r\n") is None
        assert read(b"\r") is None
        assert good(b"\r\n\r", b"\n" + request()).target == "/sign"

    @pytest.mark.parametrize(
        "head", [request(b"Connection: upgrade", b"Upgrade: h2c"), request(line=b"CONNECT a:1 HTTP/1.1")]
    )
    def test_other_protocols_are_not_switched_to(self, head: bytes) -> None:
        """A wish for another protocol or a tunnel leaves a request like any other."""
        assert good(head).length == 0

    @pytest.mark.parametrize(
        ("version", "fields", "kept"),
        [
            (b"1.1", [], True),
            (b"1.1", [b"Connection: close"], False),
            (b"1.1", [b"Connection: x , Close"], False),
            (b"1.1", [b"Connection: keep-alive", b"Connection: close"], False),
            (b"1.0", [], False),
            (b"1.0", [b"Connection: keep-alive"], True),
            (b"1.0", [b"Connection: x"], False),
            (b"1.0", [b"Connection: Keep-Alive, close"], False),
        ],
    )
    def test_connections_are_kept_as_the_client_says(
        self, version: bytes, fields: list[bytes], kept: bool
    ) -> None:
        """HTTP/1.1 keeps a connection unless told otherwise, HTTP/1.0 only if told so."""
        assert good(request(*fields, line=b"POST / HTTP/" + version)).keep_alive is kept


class TestLengths:
    @pytest.mark.parametrize("length", [b"0", b"1", b"0017", b"9" * 18])
    def test_plain_digits_are_a_length(self, length: bytes) -> None:
        """A length is digits, at most eighteen."""
        assert good(request(length=length)).length == int(length)

    @pytest.mark.threat("http", "malformed requests")
    @pytest.mark.parametrize(
        "length",
        [b"", b"-1", b"+1", b"1_0", b"1 0", b"1,1", b"0x10", b"1.0", b"1e3", b"\xb2", b"9" * 19, b"9" * 5000],
        ids=lambda length: length[:20].decode("latin-1"),
    )
    def test_nothing_else_is(self, length: bytes) -> None:
        """Signs, underscores, fractions, lists, other digits and thousands of digits are 400."""
        assert refusal(request(length=length)).status == 400

    @pytest.mark.threat("http", "malformed requests")
    @pytest.mark.parametrize("second", [b"5", b"6"])
    def test_two_lengths(self, second: bytes) -> None:
        """Two Content-Length headers are 400, whether they differ or not."""
        assert refusal(request(b"Content-Length: " + second, length=b"5")).status == 400

    @pytest.mark.threat("http", "no length")
    @pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH"])
    def test_no_length(self, method: bytes) -> None:
        """A method that sends something needs a length: 411."""
        assert refusal(request(line=method + b" /sign HTTP/1.1", length=None)).status == 411

    @pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"OPTIONS"])
    def test_no_length_where_nothing_is_sent(self, method: bytes) -> None:
        """Other methods without a length have no body."""
        assert good(request(line=method + b" / HTTP/1.1", length=None)).length == 0

    @pytest.mark.threat("http", "no length")
    @pytest.mark.parametrize("coding", [b"gzip, chunked", b"identity", b"gzip", b"x"])
    @pytest.mark.parametrize("method", [b"POST", b"GET"])
    def test_transfer_codings(self, method: bytes, coding: bytes) -> None:
        """Any Transfer-Encoding but chunked alone is 501."""
        head = request(b"Transfer-Encoding: " + coding, line=method + b" /sign HTTP/1.1", length=None)
        assert refusal(head).status == 501

    @pytest.mark.threat("http", "no length")
    @pytest.mark.parametrize(
        "codings", [["chunked", "chunked"], ["chunked, chunked"], ["gzip", "chunked"], [""]]
    )
    def test_odd_transfer_codings(self, codings: list[str]) -> None:
        """Whatever could be read in two ways is refused."""
        fields = [f"Transfer-Encoding: {coding}".encode() for coding in codings]
        assert refusal(request(*fields, length=None)).status in {400, 501}

    @pytest.mark.threat("http", "chunked bodies")
    @pytest.mark.parametrize("coding", [b"chunked", b"Chunked", b"\tCHUNKED "])
    @pytest.mark.parametrize("method", [b"POST", b"GET"])
    def test_chunks_are_announced(self, method: bytes, coding: bytes) -> None:
        """A body in chunks needs no length."""
        head = good(request(b"Transfer-Encoding: " + coding, line=method + b" /sign HTTP/1.1", length=None))
        assert head.is_chunked
        assert head.length == 0

    @pytest.mark.threat("http", "chunked bodies")
    @pytest.mark.parametrize("first", [True, False])
    @pytest.mark.parametrize("length", [b"5", b"0", b"x"])
    def test_a_length_and_a_transfer_coding(self, first: bool, length: bytes) -> None:
        """A request that says its length in two ways is refused, as others may read the other one."""
        fields = [b"Content-Length: " + length, b"Transfer-Encoding: chunked"]
        head = request(*(fields if first else reversed(fields)), length=None)
        assert refusal(head).status == 400

    @pytest.mark.threat("http", "chunked bodies")
    def test_chunks_in_http_1_0(self) -> None:
        """HTTP/1.0 has no chunks (RFC 9112 section 6.1)."""
        head = request(b"Transfer-Encoding: chunked", line=b"POST /sign HTTP/1.0", length=None)
        assert refusal(head).status == 400

    def test_what_follows_a_body_in_chunks(self) -> None:
        """A body in chunks ends where it says, and the next request begins there."""
        reader = RequestReader(HeadLimits())
        reader.feed(request(b"Transfer-Encoding: chunked", length=None) + b"5\r\nhello\r\n0\r\n\r\n")
        reader.feed(request(line=b"POST /next HTTP/1.1"))
        assert reader.head() is not None
        assert reader.chunked_body(100) == b"hello"
        head = reader.head()
        assert head is not None
        assert head.target == "/next"

    def test_what_is_kept_is_counted(self) -> None:
        """What has come of a head or a body counts, until it is taken or forgotten."""
        reader = RequestReader(HeadLimits())
        assert (reader.size, reader.empty) == (0, True)
        reader.feed(request(b"Transfer-Encoding: chunked", length=None) + b"5\r\nhello\r\n5\r\nhe")
        assert reader.head() is not None
        assert reader.chunked_body(100) is None
        assert (reader.size, reader.empty) == (7, False)
        reader.clear()
        assert (reader.size, reader.empty) == (0, True)


class TestHosts:
    def test_two_hosts(self) -> None:
        """Two Host headers are 400, even if they agree (RFC 9112 section 3.2)."""
        assert refusal(request(host=HOST + HOST)).status == 400

    def test_no_host(self) -> None:
        """HTTP/1.1 without Host is 400, HTTP/1.0 may go without."""
        assert refusal(request(host=b"")).status == 400
        assert good(request(line=b"POST /sign HTTP/1.0", host=b"")).headers["Host"] is None

    @pytest.mark.parametrize("host", [b"a b", b"a/b", b"a@b", b"a\\b", b"\xe4.example.org", b'"a"', b"<a>"])
    def test_odd_hosts(self, host: bytes) -> None:
        """What cannot be a host is 400."""
        assert refusal(request(host=b"Host: " + host + b"\r\n")).status == 400

    @pytest.mark.parametrize("host", [b"", b"a.example.org:1380", b"[::1]:80", b"192.0.2.1"])
    def test_usual_hosts(self, host: bytes) -> None:
        """Names and addresses, with and without port, are hosts; so is nothing."""
        assert good(request(host=b"Host: " + host + b"\r\n")).headers["Host"] == host.decode()


class TestExpectations:
    @pytest.mark.parametrize(
        ("version", "value", "expected"),
        [(b"1.1", b"100-continue", True), (b"1.1", b"100-Continue", True), (b"1.0", b"100-continue", False)],
    )
    def test_continue(self, version: bytes, value: bytes, expected: bool) -> None:
        """HTTP/1.1 clients can wait for a 100; HTTP/1.0 knows no such thing (RFC 9110 section 10.1.1)."""
        head = good(request(b"Expect: " + value, line=b"POST / HTTP/" + version))
        assert head.expects_continue is expected

    def test_other_expectations(self) -> None:
        """What else a client expects is 417."""
        assert refusal(request(b"Expect: miracles")).status == 417


MALFORMED = {
    "space before colon": request(b"X : y"),
    "tab before colon": request(b"X\t: y"),
    "no colon": request(b"X"),
    "no name": request(b": y"),
    "odd name": request(b"X@Y: z"),
    "bare CR in a value": request(b"X: y\rZ: z"),
    "bare CR at the end": b"POST /sign HTTP/1.1\r" + HOST + b"\r\n",
    "bare LF after a header": request(b"X: y\nZ: z"),
    "bare LF after the line": b"POST /sign HTTP/1.1\n" + HOST + b"Content-Length: 0\r\n\r\n",
    "bare LFs only": request().replace(b"\r\n", b"\n"),
    "bare LF as empty line": request()[:-2] + b"\n" + request(),
    "CR LF CR as empty line": request()[:-2] + b"\r" + request(),
    "folded line": request(b"X: y", b" z"),
    "line folded with a tab": request(b"X: y", b"\tz"),
    "folded Content-Length": request(b"X: y", length=b"1\r\n 0"),
    "blank before the first header": request(host=b" " + HOST),
    "NUL in a value": request(b"X: \0"),
    "NUL in a name": request(b"X\0: y"),
    "NUL in the target": request(line=b"POST /\0 HTTP/1.1"),
    "control character in a value": request(b"X: \x01"),
    "DEL in a value": request(b"X: \x7f"),
    "blank in the target": request(line=b"POST /a b HTTP/1.1"),
    "two blanks": request(line=b"POST  /sign HTTP/1.1"),
    "blank at the end": request(line=b"POST /sign HTTP/1.1 "),
    "blank in front": request(line=b" POST /sign HTTP/1.1"),
    "tabs": request(line=b"POST\t/sign\tHTTP/1.1"),
    "no target": request(line=b"POST HTTP/1.1"),
    "other letters in the target": request(line=b"POST /\xfc HTTP/1.1"),
    "lower case method": request(line=b"post /sign HTTP/1.1"),
    "unknown method": request(line=b"SIGN /sign HTTP/1.1"),
    "lower case version": request(line=b"POST /sign http/1.1"),
    "odd version": request(line=b"POST /sign HTTP/1.10"),
    "other protocol": request(line=b"POST /sign RTSP/1.0"),
    "HTTP/0.9": b"GET /\r\n",
    "bare line end in front": b"\n" + request(),
    "random": bytes(range(256)),
}


class TestMalformed:
    @pytest.mark.threat("http", "malformed requests")
    @pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
    def test_what_is_not_http_is_refused(self, data: bytes) -> None:
        """Whatever two readers could understand in two ways is 400."""
        assert refusal(data).status == 400

    @pytest.mark.parametrize("rest", [b"X : y\r\n", b"X: \0\n", b" y\r\n", b"X: y\n"])
    def test_the_end_is_not_waited_for(self, rest: bytes) -> None:
        """A head is refused at the first line that is wrong, not when it is complete."""
        assert refusal(request()[:-2] + rest).status == 400

    def test_a_parser_that_sees_another_end_is_not_believed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the parser would take something else for the empty line, the request is 400."""

        def lenient(fields: object) -> httptools.HttpRequestParser:
            parser = httptools.HttpRequestParser(fields)
            parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)
            return parser

        monkeypatch.setattr(
            framing, "httptools", types.SimpleNamespace(**{**vars(httptools), "HttpRequestParser": lenient})
        )
        assert refusal(request().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n", 1)).status == 400

    @pytest.mark.parametrize("version", [b"0.9", b"1.2", b"2.0", b"3.0"])
    def test_other_versions(self, version: bytes) -> None:
        """Other versions of HTTP are 505."""
        assert refusal(request(line=b"POST /sign HTTP/" + version)).status == 505

    def test_the_preface_of_http_2(self) -> None:
        """A client that speaks HTTP/2 without asking is told the version (RFC 9113 section 3.4)."""
        assert refusal(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status == 505

    def test_tls(self) -> None:
        """A TLS ClientHello is told, by its first byte, that this port speaks plain HTTP."""
        assert "TLS" in refusal(b"\x16").reason
        assert "TLS" in refusal(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").reason


class TestSizes:
    LIMITS = HeadLimits(size=1000, target=100, headers=5)

    def test_a_long_target(self) -> None:
        """A target is taken up to its limit, and 414 from there."""
        line = b"POST /%s HTTP/1.1"
        assert read(request(line=line % (b"x" * 99)), limits=self.LIMITS) is not None
        assert refusal(request(line=line % (b"x" * 100)), limits=self.LIMITS).status == 414

    @pytest.mark.threat("http", "long lines, many headers")
    def test_a_line_of_70_kb(self) -> None:
        """An endless line is 414 long before it ends, whether it ends or not."""
        assert refusal(b"GET /" + b"x" * 70_000).status == 414
        assert refusal(request(line=b"GET /" + b"x" * 70_000 + b" HTTP/1.1")).status == 414

    def test_a_line_without_an_end(self) -> None:
        """A line is waited for no longer than the longest acceptable one could be."""
        longest = self.LIMITS.target + 32
        assert read(b"G" * (longest - 1), limits=self.LIMITS) is None
        assert refusal(b"G" * longest, limits=self.LIMITS).status == 414

    @pytest.mark.threat("http", "long lines, many headers")
    def test_many_headers(self) -> None:
        """A hundred headers are taken; with one more it is 431."""
        fields = [b"X-%d: y" % number for number in range(98)]
        assert len(good(request(*fields)).headers) == 100
        assert refusal(request(*fields, b"X: y")).status == 431

    @pytest.mark.threat("http", "long lines, many headers")
    def test_long_headers(self) -> None:
        """A head is taken up to its limit, and 431 from there, whether it ends or not."""
        room = self.LIMITS.size - len(request(b"X: "))
        assert read(request(b"X: " + b"y" * room), limits=self.LIMITS) is not None
        assert refusal(request(b"X: y" + b"y" * room), limits=self.LIMITS).status == 431
        assert refusal(request(b"X: " + b"y" * 2000)[:-4], limits=self.LIMITS).status == 431

    def test_an_endless_header_name(self) -> None:
        """A header name without an end is 431."""
        assert refusal(request()[:-2] + b"x" * 70_000).status == 431


PACKETS = {
    **MALFORMED,
    "good": request(b"X: y", b"Expect: 100-continue", length=b"5") + b"12345",
    "upgrade": request(b"Connection: upgrade", b"Upgrade: h2c"),
    "501": request(b"Transfer-Encoding: chunked", length=None),
    "411": request(length=None),
    "505": request(b"X : y", line=b"POST /sign HTTP/2.0"),
    "431, then malformed": request(*([b"X: y"] * 6), b"X : y"),
    "malformed, then 431": request(b"X : y", *([b"X: y"] * 6)),
    "414, then malformed": request(line=b"GET /" + b"x" * 200 + b" x y"),
    "malformed, then 414": request(line=b"GET /\0" + b"x" * 200 + b" HTTP/1.1"),
    "431 before a line that is malformed": request(*([b"X: y"] * 4), b"Y: z\x01"),
    "long head, then malformed": request(b"X: " + b"y" * 2000, b"X : y"),
}


class TestPackets:
    @pytest.mark.threat("http", "malformed requests")
    @pytest.mark.parametrize("data", PACKETS.values(), ids=PACKETS.keys())
    def test_packets_do_not_matter(self, data: bytes) -> None:
        """Cut in two at any byte, or sent byte by byte, a head is read or refused as it is in one piece."""

        def outcome(*packets: bytes) -> object:
            try:
                head = read(*packets, limits=TestSizes.LIMITS)
            except HttpRefusal as error:
                return error.status, error.reason
            return head and (head.method, head.target, head.headers.items(), head.length)

        whole = outcome(data)
        assert [outcome(data[:cut], data[cut:]) for cut in range(1, len(data))] == [whole] * (len(data) - 1)
        assert outcome(*(data[at : at + 1] for at in range(len(data)))) == whole

    def test_requests_that_follow_each_other(self) -> None:
        """Heads and bodies that come in one packet are handed out one after the other."""
        reader = RequestReader(HeadLimits())
        reader.feed(request(length=b"3") + b"abc" + request(line=b"GET /next HTTP/1.1", length=None) + b"G")
        first = reader.head()
        assert first is not None
        assert reader.body(first.length) == b"abc"
        second = reader.head()
        assert second is not None
        assert second.target == "/next"
        assert reader.body(second.length) == b""
        assert reader.head() is None
        assert not reader.empty

    def test_a_body_comes_whole_or_not_at_all(self) -> None:
        """A body is handed out when its last byte is there; what follows stays."""
        reader = RequestReader(HeadLimits())
        reader.feed(b"ab")
        assert reader.body(3) is None
        reader.feed(b"cd")
        assert reader.body(3) == b"abc"
        assert not reader.empty
        assert reader.body(1) == b"d"
        assert reader.empty

    def test_asking_again_changes_nothing(self) -> None:
        """An incomplete head can be asked for again without further bytes."""
        reader = RequestReader(HeadLimits())
        data = request()
        reader.feed(data[:30])
        assert [reader.head() for _ in range(3)] == [None] * 3
        reader.feed(data[30:])
        assert reader.head() is not None
