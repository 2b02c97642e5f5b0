"""DER: tags, lengths, and every octet accounted for."""

from __future__ import annotations

import pytest
from tests import der as write

from acmems.x509 import der
from acmems.x509.der import DERError


class TestElements:
    def test_side_by_side(self) -> None:
        """Values side by side are read in their order, each with its contents and whole encoding."""
        long = write.octets(bytes(200))
        found = der.elements(write.NULL + long)
        assert found == [(der.NULL, b"", write.NULL), (der.OCTET_STRING, bytes(200), long)]

    @pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 65535, 65536])
    def test_lengths(self, length: int) -> None:
        """Lengths are read in the short form and in as many octets as they need."""
        [found] = der.elements(write.octets(bytes(length)))
        assert len(found.content) == length

    @pytest.mark.parametrize(
        ("encoded", "rest"),
        [
            (b"\x9f\x1f\x01a", b"a"),
            (b"\xbf\x85\x3d\x02\x05\x00", b"\5\0"),
            (b"\x9f\xff\xff\x7f\x00", b""),
        ],
    )
    def test_tags_above_30(self, encoded: bytes, rest: bytes) -> None:
        """A tag above 30 takes several octets, of which the first is told."""
        [found, after] = der.elements(encoded + write.NULL)
        assert found == (encoded[0], rest, encoded)
        assert after.encoded == write.NULL

    @pytest.mark.parametrize(
        ("encoded", "reason"),
        [
            pytest.param(b"\x04", "missing", id="no length"),
            pytest.param(b"\x04\x02a", "missing", id="contents cut short"),
            pytest.param(b"\x04\x81", "more octets than it needs", id="length cut short"),
            pytest.param(b"\x04\x82\x01", "more octets|missing", id="half a length"),
            pytest.param(b"\x30\x80\0\0", "indefinite", id="indefinite"),
            pytest.param(b"\x04\x85\0\0\0\0\1a", "endless", id="length of five octets"),
            pytest.param(b"\x04\xff" + bytes(200), "endless", id="reserved length"),
            pytest.param(b"\x04\x81\x7f" + bytes(127), "more octets than it needs", id="long form of 127"),
            pytest.param(
                b"\x04\x82\0\x80" + bytes(128), "more octets than it needs", id="zero before a length"
            ),
            pytest.param(b"\x1f\x1e\0", "a tag", id="tag of 30 in the long form"),
            pytest.param(b"\x1f\x80\x1f\0", "a tag", id="tag with padding"),
            pytest.param(b"\x1f\x81\x81\x81\x81\x01\0", "a tag", id="endless tag"),
            pytest.param(b"\x1f\x81", "a tag", id="tag cut short"),
            pytest.param(b"\x1f\x1f", "missing", id="no length after a tag above 30"),
        ],
    )
    def test_refused(self, encoded: bytes, reason: str) -> None:
        """What parsers disagree about is refused."""
        with pytest.raises(DERError, match=reason):
            der.elements(encoded)


class TestValues:
    @pytest.mark.parametrize(
        ("encoded", "reason"),
        [(b"", "empty"), (write.NULL * 2, "left over"), (write.NULL + b"\0", "missing")],
    )
    def test_only(self, encoded: bytes, reason: str) -> None:
        """One value is neither none nor two."""
        assert der.only(write.NULL).tag == der.NULL
        with pytest.raises(DERError, match=reason):
            der.only(encoded)

    def test_alike(self) -> None:
        """Values of one tag are refused where one has another."""
        assert len(der.alike(write.NULL * 3, der.NULL)) == 3
        with pytest.raises(DERError):
            der.alike(write.NULL + write.TRUE, der.NULL)

    def test_contents(self) -> None:
        """Contents are read of a value of the right type only."""
        element = der.only(write.octets(b"a"))
        assert der.contents(element, der.OCTET_STRING) == b"a"
        with pytest.raises(DERError):
            der.contents(element, der.BIT_STRING)

    @pytest.mark.parametrize(
        "encoded", [b"\1\1\1", b"\1\1\x7f", b"\1\0", b"\1\2\xff\xff", write.NULL, write.octets(b"\xff")]
    )
    def test_boolean(self, encoded: bytes) -> None:
        """TRUE is FF and FALSE is 00; what others take for TRUE is neither."""
        assert der.boolean(der.only(write.TRUE))
        assert not der.boolean(der.only(write.FALSE))
        with pytest.raises(DERError):
            der.boolean(der.only(encoded))

    @pytest.mark.parametrize("depth", [1, 16])
    def test_check(self, depth: int) -> None:
        """Values are read to the depth that a request can have, whatever they are."""
        encoded = write.utf8(b"a")
        for _ in range(depth):
            encoded = write.sequence(encoded)
        der.check(der.only(encoded))
        with pytest.raises(DERError, match="too deeply"):
            der.check(der.only(write.tlv(0xA0, encoded)), depth)


class TestObjectIdentifier:
    @pytest.mark.parametrize(
        "dotted",
        [
            "0.9.2342.19200300.100.1.25",
            "1.2.840.113549.1.1.11",
            "2.5.29.17",
            "2.999.1",
            "2.25." + str(2**128),
        ],
    )
    def test_text(self, dotted: str) -> None:
        """An object identifier is told in dotted decimals."""
        assert der.dotted(der.object_identifier(der.only(write.oid(dotted)))) == dotted

    @pytest.mark.parametrize(
        "encoded",
        [
            pytest.param(write.NULL, id="another type"),
            pytest.param(write.tlv(6), id="empty"),
            pytest.param(write.tlv(6, b"\x55\x80\x1d\x11"), id="padding"),
            pytest.param(write.tlv(6, b"\x80\x55\x1d\x11"), id="padding at the start"),
            pytest.param(write.tlv(6, b"\x55\x1d\x91"), id="cut short"),
            pytest.param(write.tlv(6, b"\x55" + b"\x81" * 10_000 + b"\1"), id="endless"),
        ],
    )
    def test_refused(self, encoded: bytes) -> None:
        """An object identifier has one encoding, so that its octets can be compared."""
        with pytest.raises(DERError):
            der.object_identifier(der.only(encoded))
