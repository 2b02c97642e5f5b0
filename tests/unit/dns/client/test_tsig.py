"""TSIG keys, from files as people have them."""

from __future__ import annotations

from pathlib import Path

import dns.name
import dns.tsig
import pytest

from acmems.dns.client.tsig import TsigKey
from acmems.exceptions import ValidatorUnavailable
from acmems.text import Secret

BIND = 'key "acmems" {\n\talgorithm hmac-sha512;\n\tsecret "c2Vj//9yZXQ0";\n};\n'
NAME = dns.name.from_text("acmems")


def loaded(
    tmp_path: Path, text: str, name: dns.name.Name | None = None, algorithm: str | None = None
) -> dns.tsig.Key:
    (tmp_path / "key").write_text(text, encoding="utf-8")
    return TsigKey(name, file=tmp_path / "key", algorithm=algorithm).load()


@pytest.mark.parametrize("text", [BIND, f"# a comment\n{BIND}", f'/* secret "bm8="; */ // more\n{BIND}'])
def test_a_key_file_tells_name_secret_and_algorithm(tmp_path: Path, text: str) -> None:
    """A key file of BIND needs nothing else; comments are passed over, and slashes in base64 are none."""
    key = loaded(tmp_path, text)
    assert (key.name, key.algorithm) == (NAME, dns.tsig.HMAC_SHA512)
    assert key.secret.startswith(b"sec\xff\xff")


def test_a_file_of_several_keys_needs_a_name(tmp_path: Path) -> None:
    """Of several keys in a file, `tsig-name` picks one."""
    both = BIND + BIND.replace("acmems", "other").replace("512", "256")
    assert loaded(tmp_path, both, dns.name.from_text("other")).algorithm == dns.tsig.HMAC_SHA256
    with pytest.raises(ValidatorUnavailable) as caught:
        loaded(tmp_path, both)
    assert "more than one key" in caught.value.advice


def test_a_bare_secret_needs_a_name(tmp_path: Path) -> None:
    """A file with the secret alone is used with `tsig-name`, by hmac-sha256."""
    key = loaded(tmp_path, "c2VjcmV0\n", NAME)
    assert (key.name, key.secret, key.algorithm) == (NAME, b"secret", dns.tsig.HMAC_SHA256)
    with pytest.raises(ValidatorUnavailable) as caught:
        loaded(tmp_path, "c2VjcmV0\n")
    assert "add `tsig-name`" in caught.value.advice


@pytest.mark.parametrize(
    "text", ["", "nonsense!", 'key "acmems" { algorithm hmac-sha256; };', BIND.replace("512", "9")]
)
def test_a_file_without_a_key_is_told(tmp_path: Path, text: str) -> None:
    """What is no key file is an error whose words show neither its path nor its content to clients."""
    with pytest.raises(ValidatorUnavailable) as caught:
        loaded(tmp_path, text, NAME)
    assert str(caught.value) == "the TSIG key for DNS updates cannot be used"
    assert str(tmp_path / "key") in caught.value.advice
    assert "nonsense" not in caught.value.advice


def test_a_missing_file_is_told_when_it_is_needed(tmp_path: Path) -> None:
    """A key is made without reading its file; loading says what is wrong, and works once it is mended."""
    key = TsigKey(NAME, file=tmp_path / "key")
    with pytest.raises(ValidatorUnavailable) as caught:
        key.load()
    assert "No such file" in caught.value.advice
    (tmp_path / "key").write_text(BIND, encoding="utf-8")
    assert key.load().name == NAME


def test_a_key_prints_without_its_secret() -> None:
    """A key is printed without its secret."""
    key = TsigKey(NAME, Secret("c2VjcmV0"))
    assert "c2VjcmV0" not in repr(key)
