"""Where a CA lives, and which URLs are its own."""

from __future__ import annotations

import pytest

from acmems.issuers.acme.session.origin import Origin, target


class TestOrigin:
    @pytest.mark.parametrize(
        ("url", "host", "port"),
        [
            ("https://ca.example/dir", "ca.example", 443),
            ("https://CA.Example:443/x", "ca.example", 443),
            ("https://ca.example:14000", "ca.example", 14000),
            ("https://[::1]:14000/dir?a=b", "::1", 14000),
            ("https://127.0.0.1/a@b/c%20d", "127.0.0.1", 443),
        ],
    )
    def test_it_is_host_and_port(self, url: str, host: str, port: int) -> None:
        """Two URLs have the same origin if host and port are the same, however they are written."""
        assert Origin.of(url) == Origin(host, port)

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "http://ca.example/dir",
            "HTTPS://ca.example/dir",
            "//ca.example/dir",
            "ftp://ca.example/dir",
            "https:///dir",
            "https://user@ca.example/dir",
            "https://user:password@ca.example/dir",
            "https://ca.example@evil.example/dir",
            "https://ca.example\\@evil.example/dir",
            "https://ca.example/dir#fragment",
            "https://ca.example?query",
            "https://ca.example/a b",
            "https://ca.example/\r\nHost: evil.example",
            "https://ca.example/ä",
            "https://ca.example/\x00",
            'https://ca.example/"',
            "https://ca.example:0/",
            "https://ca.example:99999/",
            "https://ca.example:a/",
            "https://[::1/",
            "https://[1:2]/",
            "https://evil[::1]/",
            "https://ca.example/" + "a" * 2048,
        ],
    )
    def test_odd_urls_have_none(self, url: str) -> None:
        """Only plain https URLs have an origin here: no user, no fragment, no odd characters."""
        with pytest.raises(ValueError):
            Origin.of(url)
        assert not Origin("ca.example", 443).has(url)

    @pytest.mark.parametrize(
        ("url", "own"),
        [
            ("https://ca.example", True),
            ("https://ca.example/", True),
            ("https://ca.example/a/b?c=/d@e", True),
            ("https://ca.example:443/a", False),
            ("https://CA.example/a", False),
            ("https://ca.example:8443/a", False),
            ("https://ca.example.evil.example/a", False),
            ("https://ca.example@evil.example/a", False),
            ("https://evil.example/https://ca.example/", False),
        ],
    )
    def test_its_own_urls(self, url: str, own: bool) -> None:
        """A URL that it spells like this is its own; of all others `of` tells."""
        origin = Origin("ca.example", 443)
        assert origin.has(url) is own
        assert not own or Origin.of(url) == origin

    @pytest.mark.parametrize(
        "text", ["https://ca.example", "https://ca.example:14000", "https://[::1]:14000"]
    )
    def test_it_prints_as_a_url(self, text: str) -> None:
        """An origin in a message looks as people write it."""
        assert str(Origin.of(text)) == text


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://ca.example/dir", "/dir"),
        ("https://ca.example", "/"),
        ("https://ca.example:1/a/b?c=/d", "/a/b?c=/d"),
    ],
)
def test_the_target_is_path_and_query(url: str, path: str) -> None:
    """A request line has path and query, at least a slash (RFC 9112 section 3.2.1)."""
    assert target(url) == path
