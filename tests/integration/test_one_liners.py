"""The one-liners of 0.3's users: openssl, sed, and wget or curl, in a shell, each as it was documented."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers import Acmems, Pebble, Settings, curl, environment, names_of, run, verify_chain

KEY = "an-old-shared-secret"
NAME = "signed.example.org"
BLOCKS = "".join(
    f'\n[auth "{algorithm}"]\nhmac_type = {algorithm}\nhmac_key = {KEY}-{algorithm}\ndomain = {NAME}\n'
    for algorithm in ("sha256", "sha384", "sha512")
)
BLOCKS += '\n[auth "by address"]\nip = 127.0.0.1\ndomain = *.plain.example.org\n'

# What `openssl dgst` prints: version 3 as it is here, version 1.1 as it was.
OPENSSL_3 = 'openssl dgst -{algorithm} -hmac "$KEY" host.csr'
OPENSSL_1_1 = "printf 'HMAC-%s(host.csr)= %s\\n' {printed} \"$(" + OPENSSL_3 + " | sed 's/^.*= //')\""
SED = r"sed -e 's/HMAC-\(.*\)(.*)= *\(.*\)/Authentication: hmac name=\L\1\E, hash=\2/'"
CURL = 'curl -sS -f --data-binary @host.csr -H "$({openssl} | {sed})" {url} > host.pem'
WGET = 'wget -q --post-file=host.csr --header="$({openssl} | {sed})" {url} -O host.pem'
PLAIN_CURL = "curl -sS -f --data-binary @host.csr {url} > host.pem"
PLAIN_WGET = "wget -q --post-file=host.csr {url} -O host.pem"
REQUEST = (
    "openssl req -new {key} -nodes -keyout host.key -out host.csr -subj '{subject}' "
    "-addext subjectAltName=DNS:{san}"
)


@pytest.fixture(scope="module")
def acmems(pebble: Pebble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Acmems]:
    """A server with a block for each algorithm, and one that goes by address alone."""
    settings = Settings.of(pebble, tmp_path_factory.mktemp("one-liners"))
    settings.auth = BLOCKS
    with Acmems(settings) as running:
        yield running


@pytest.fixture(scope="module")
def csr(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """One signing request for all tests, so that its chain is ordered once."""
    folder = tmp_path_factory.mktemp("client")
    shell(folder, REQUEST.format(key="-newkey rsa:2048", subject="/", san=NAME), "")
    return (folder / "host.csr").read_bytes()


def shell(folder: Path, line: str, key: str) -> None:
    """Run a line as a user has it in a script or crontab; it must succeed."""
    subprocess.run(
        ["sh", "-e", "-c", line], cwd=folder, env=environment({"KEY": key}), check=True, timeout=60
    )


@pytest.mark.parametrize("client", [CURL, WGET], ids=["curl", "wget"])
@pytest.mark.parametrize("openssl", [OPENSSL_1_1, OPENSSL_3], ids=["1.1", "3"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_every_openssl_and_client(
    acmems: Acmems, csr: bytes, tmp_path: Path, algorithm: str, openssl: str, client: str
) -> None:
    """The header made by sed out of openssl's output is taken, whichever version printed it."""
    (tmp_path / "host.csr").write_bytes(csr)
    made = openssl.format(algorithm=algorithm, printed=algorithm.upper())
    line = client.format(openssl=made, sed=SED, url=acmems.sign_url)
    shell(tmp_path, line, f"{KEY}-{algorithm}")
    assert names_of((tmp_path / "host.pem").read_bytes()) == {NAME}


@pytest.mark.parametrize(
    "form",
    [
        r"hmac name=\L\1\E, hash=\2",
        r"hmac name=\L\1\E,hash=\2",
        r"hmac name=\L\1\E hash=\2",
        r"hmac name=\1, hash=\2",
        r"hmac hash=\2, name=\L\1\E",
    ],
)
def test_every_form_of_the_header(acmems: Acmems, csr: bytes, tmp_path: Path, form: str) -> None:
    """Comma, space or both may separate name and hash, in any order; names may be in capitals."""
    (tmp_path / "host.csr").write_bytes(csr)
    sed = rf"sed -e 's/HMAC-\(.*\)(.*)= *\(.*\)/Authentication: {form}/'"
    openssl = OPENSSL_3.format(algorithm="sha256")
    shell(tmp_path, CURL.format(openssl=openssl, sed=sed, url=acmems.sign_url), f"{KEY}-sha256")
    assert names_of((tmp_path / "host.pem").read_bytes()) == {NAME}


@pytest.mark.parametrize("client", [CURL, WGET], ids=["curl", "wget"])
def test_a_wrong_secret_fails(acmems: Acmems, csr: bytes, tmp_path: Path, client: str) -> None:
    """With another secret the line fails, and leaves no certificate."""
    (tmp_path / "host.csr").write_bytes(csr)
    line = client.format(openssl=OPENSSL_3.format(algorithm="sha256"), sed=SED, url=acmems.sign_url)
    with pytest.raises(subprocess.CalledProcessError):
        shell(tmp_path, line, "a guess")
    assert (tmp_path / "host.pem").read_bytes() == b""


@pytest.mark.parametrize(
    ("key", "ask"),
    [
        ("-newkey rsa:4096", PLAIN_CURL),
        ("-newkey rsa:2048 -sha512", PLAIN_WGET),
        ("-newkey ec -pkeyopt ec_paramgen_curve:P-256", PLAIN_CURL),
        ("-newkey ec -pkeyopt ec_paramgen_curve:P-384", PLAIN_WGET),
    ],
    ids=["RSA 4096", "RSA with SHA-512", "P-256", "P-384"],
)
def test_without_a_secret(acmems: Acmems, pebble: Pebble, tmp_path: Path, key: str, ask: str) -> None:
    """Machines that are known by address send the CSR alone; its CN is one of the names, as it was usual."""
    name = f"{tmp_path.name.replace('_', '-')}.plain.example.org".lower()
    shell(tmp_path, REQUEST.format(key=key, subject=f"/O=A user/CN={name}", san=name), "")
    shell(tmp_path, ask.format(url=acmems.sign_url), "")
    chain = (tmp_path / "host.pem").read_bytes()
    assert names_of(chain) == {name}
    assert verify_chain(chain, pebble.root_pem()).endswith("OK")
    certified = run("openssl", "x509", "-in", "host.pem", "-noout", "-pubkey", folder=tmp_path)
    assert run("openssl", "pkey", "-in", "host.key", "-pubout", folder=tmp_path) == certified


@pytest.mark.threat("csr", "a common name and no SAN")
def test_names_in_the_cn_alone(acmems: Acmems, tmp_path: Path) -> None:
    """A CSR with a CN only that the CA does not take is answered by the option that makes a better one."""
    line = "openssl req -new -newkey rsa:2048 -nodes -keyout host.key -out host.csr -subj /CN={name}"
    name = "cn.plain.example.org"
    shell(tmp_path, line.format(name=name), "")
    reply = curl(acmems.sign_url, "--data-binary", f"@{tmp_path / 'host.csr'}")
    assert reply.status == 415
    assert f"-addext 'subjectAltName=DNS:{name}'" in reply.text
