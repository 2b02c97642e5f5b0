"""TSIG keys, from files as people have them."""

from __future__ import annotations

from pathlib import Path

import dns.name
import dns.tsig
import pytest

from acmems.dns.client.tsig import TsigKey, key_text, tsig_algorithm
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


PRIVATE = "Private-key-format: v1.3\nAlgorithm: {} ({})\nKey: c2VjcmV0\nBits: AAA=\nCreated: 20260101000000\n"


@pytest.mark.parametrize(
    ("number", "title", "algorithm"),
    [
        (157, "HMAC_MD5", dns.tsig.HMAC_MD5),
        (161, "HMAC_SHA1", dns.tsig.HMAC_SHA1),
        (163, "HMAC_SHA256", dns.tsig.HMAC_SHA256),
        (165, "HMAC_SHA512", dns.tsig.HMAC_SHA512),
    ],
)
def test_a_private_file_of_bind(tmp_path: Path, number: int, title: str, algorithm: dns.name.Name) -> None:
    """A `K*.private` tells secret and algorithm, and its file's name that of the key."""
    path = tmp_path / f"Kk.example.org.+{number}+04711.private"
    path.write_text(PRIVATE.format(number, title), encoding="utf-8")
    key = TsigKey(None, file=path).load()
    assert (key.name, key.secret, key.algorithm) == (
        dns.name.from_text("k.example.org"),
        b"secret",
        algorithm,
    )


def test_a_private_file_of_another_name(tmp_path: Path) -> None:
    """A `K*.private` that was renamed needs `tsig-name`; one of another kind of key is refused."""
    assert loaded(tmp_path, PRIVATE.format(165, "HMAC_SHA512"), NAME).algorithm == dns.tsig.HMAC_SHA512
    with pytest.raises(ValidatorUnavailable) as caught:
        loaded(tmp_path, PRIVATE.format(165, "HMAC_SHA512"))
    assert "`tsig-name`" in caught.value.advice
    with pytest.raises(ValidatorUnavailable):
        loaded(tmp_path, PRIVATE.format(8, "RSASHA256"), NAME)


@pytest.mark.parametrize(
    "text",
    [
        'KEY acmems. {\n  Algorithm HMAC-SHA512.;\n  Secret "c2Vj cmV0";\n};\noptions { directory "/"; };',
        'include "x";\nkey "ACMEMS" { secret c2VjcmV0; algorithm "hmac-sha512"; };',
        "hmac-sha512:acmems:c2VjcmV0\n",
        "HMAC-SHA512.:acmems.:c2Vj cmV0\n",
    ],
)
def test_files_as_people_have_them(tmp_path: Path, text: str) -> None:
    """Case, final dots, blanks in the secret and other statements in the file do not matter."""
    key = loaded(tmp_path, text)
    assert (key.name, key.secret, key.algorithm) == (NAME, b"secret", dns.tsig.HMAC_SHA512)


def test_a_name_and_a_secret_in_a_file(tmp_path: Path) -> None:
    """`NAME:SECRET` needs nothing else, and is not taken for a key of another name."""
    assert loaded(tmp_path, "acmems:c2VjcmV0").name == NAME
    with pytest.raises(ValidatorUnavailable) as caught:
        loaded(tmp_path, "acmems:c2VjcmV0", dns.name.from_text("other"))
    assert "no key of that name" in caught.value.advice


@pytest.mark.parametrize(
    ("text", "algorithm"),
    [
        ("HMAC-SHA384", "hmac-sha384"),
        ("hmac-sha256.", "hmac-sha256"),
        ("hmac-md5", "hmac-md5"),
        ("HMAC-MD5.SIG-ALG.REG.INT.", "hmac-md5"),
    ],
)
def test_names_of_algorithms(text: str, algorithm: str) -> None:
    """Algorithms are called as in configurations, or as in messages."""
    assert tsig_algorithm(text) == algorithm


@pytest.mark.parametrize("text", ["hmac-sha256.sig-alg.reg.int.x", "md5", "hmac-sha256..", ""])
def test_what_is_no_algorithm(text: str) -> None:
    """Other names are refused."""
    with pytest.raises(ValueError, match="is not one of hmac-sha256"):
        tsig_algorithm(text)


@pytest.mark.parametrize("text", ["a:b:c:c2VjcmV0", "acmems:", ":c2VjcmV0", "a b!", "c2VjcmV0:acmems:hmac"])
def test_what_is_no_key(text: str) -> None:
    """A text that is no key is refused without a word of its secret."""
    with pytest.raises(ValueError) as caught:
        key_text(text)
    assert "c2VjcmV0" not in str(caught.value)


def test_a_key_that_was_changed(tmp_path: Path) -> None:
    """A file that has changed is read again; one that is gone or broken by then is told."""
    path = tmp_path / "key"
    path.write_text(BIND)
    key = TsigKey(None, file=path)
    assert key.load() is key.load()
    new = tmp_path / "new"
    new.write_text(BIND.replace("c2Vj", "bmV3"))
    new.rename(path)
    assert key.load().secret.startswith(b"new")
    path.unlink()
    with pytest.raises(ValidatorUnavailable):
        key.load()
