"""`acmems ca`, and what `acmems check` says of local CAs."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.local_cas import make_ca

from acmems.commands import main as cli
from acmems.issuers.local.files import LocalCaDirectory

TEXT = """[local-ca "office"]
dir = {folder}/ca
common-name = Our Office
permit = internal.example
permit = 10.0.0.0/8
[storage "state"]
type = sql
[auth "web"]
all = yes
domain = **
[mgmt]
listener = 127.0.0.1:0
"""


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A configuration with a local CA that was not made yet."""
    path = tmp_path / "acmems.ini"
    path.write_text(TEXT.format(folder=tmp_path))
    return path


def test_it_is_made_and_shown(capsys: pytest.CaptureFixture[str], local: Path) -> None:
    """`init` makes a CA as the section describes it, `show` prints the same again, `root` its root."""
    assert cli.main(["ca", "init", "--json", str(local)]) == 0
    made = capsys.readouterr()
    assert "keep root-key.pem in a safe place" in made.err
    document = json.loads(made.out)
    assert (document["root"], document["permits"]) == ("Our Office", ["internal.example", "10.0.0.0/8"])
    assert cli.main(["ca", "show", "--json", str(local)]) == 0
    assert json.loads(capsys.readouterr().out) == document
    assert cli.main(["ca", "root", str(local)]) == 0
    root = x509.load_pem_x509_certificate(capsys.readouterr().out.encode())
    assert hashlib.sha256(root.public_bytes(Encoding.DER)).hexdigest() == document["root_fingerprint"]
    assert cli.main(["ca", "root", "--json", str(local)]) == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"] == document["root_fingerprint"]
    assert cli.main(["ca", "show", str(local)]) == 0
    assert "permits                 internal.example, 10.0.0.0/8\n" in capsys.readouterr().out


def test_it_is_not_made_twice(capsys: pytest.CaptureFixture[str], local: Path, tmp_path: Path) -> None:
    """Keys that are there stay, and it is said what to move away for which purpose."""
    assert cli.main(["ca", "init", str(local)]) == 0
    before = {each: each.read_bytes() for each in LocalCaDirectory(tmp_path / "ca").files}
    capsys.readouterr()
    assert cli.main(["ca", "init", str(local)]) == 1
    told = capsys.readouterr().err
    assert "its keys are never replaced silently" in told
    assert "move intermediate.pem and intermediate-key.pem away to get a new intermediate" in told
    assert {each: each.read_bytes() for each in before} == before


def test_another_intermediate(capsys: pytest.CaptureFixture[str], local: Path, tmp_path: Path) -> None:
    """Where only the intermediate was moved away, another one of the same root is made."""
    directory = make_ca(tmp_path / "ca", "internal.example")
    former = directory.load()
    directory.intermediate_file.unlink()
    directory.intermediate_key_file.unlink()
    assert cli.main(["ca", "init", str(local)]) == 0
    assert "made a new intermediate" in capsys.readouterr().err
    new = directory.load()
    assert new.root == former.root
    assert new.certificate != former.certificate


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make files that are another's")
def test_keys_that_the_server_could_not_read(
    capsys: pytest.CaptureFixture[str], local: Path, tmp_path: Path
) -> None:
    """Root makes no keys in what belongs to another user."""
    os.chown(tmp_path, 12345, 12345)
    assert cli.main(["ca", "init", str(local)]) == 1
    assert f"{tmp_path} belongs to the user 12345, who cannot read keys" in capsys.readouterr().err
    assert not (tmp_path / "ca").exists()


@pytest.mark.parametrize(
    ("arguments", "text", "words"),
    [
        (
            ["--ca", "offic"],
            "",
            "there is no [local-ca \"offic\"] in the configuration, did you mean 'office'?",
        ),
        (
            [],
            '[local-ca "lab"]\ndir = /lab\npermit = any\n',
            "there are several local CAs: name one by --ca (office, lab)",
        ),
    ],
)
def test_which_one(
    capsys: pytest.CaptureFixture[str], local: Path, arguments: list[str], text: str, words: str
) -> None:
    """Of several, one must be named."""
    local.write_text(local.read_text() + text)
    assert cli.main(["ca", "show", *arguments, str(local)]) == 2
    assert capsys.readouterr().err == f"acmems: {words}\n"


def test_none_is_configured(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    """It is said what is missing."""
    assert cli.main(["ca", "show", str(config)]) == 2
    assert capsys.readouterr().err == 'acmems: there is no [local-ca "NAME"] in the configuration\n'


class TestCheck:
    """`acmems check` looks at the files of local CAs."""

    def told(self, capsys: pytest.CaptureFixture[str], local: Path) -> tuple[int, str]:
        code = cli.main(["check", str(local)])
        return code, capsys.readouterr().err

    def test_it_was_not_made(self, capsys: pytest.CaptureFixture[str], local: Path) -> None:
        """A server would not start, so it is an error."""
        code, told = self.told(capsys, local)
        assert code == 2
        assert told.startswith(f"{local}:2: there is no CA in ")
        assert "'acmems ca init' with this configuration makes it" in told

    def test_it_was_made(self, capsys: pytest.CaptureFixture[str], local: Path, tmp_path: Path) -> None:
        """Nothing is wrong with it."""
        make_ca(tmp_path / "ca", "internal.example", "10.0.0.0/8")
        assert self.told(capsys, local) == (0, "")

    def test_it_was_made_for_less(
        self, capsys: pytest.CaptureFixture[str], local: Path, tmp_path: Path
    ) -> None:
        """What its certificates do not permit is not issued."""
        make_ca(tmp_path / "ca", "internal.example")
        code, told = self.told(capsys, local)
        assert code == 0
        assert told.startswith(
            f'{local}:4: warning: [local-ca "office"] permits more than its certificates do'
        )

    def test_its_intermediate_ends_soon(
        self, capsys: pytest.CaptureFixture[str], local: Path, tmp_path: Path
    ) -> None:
        """There is time to make another one."""
        years_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1826 - 80)
        make_ca(tmp_path / "ca", "internal.example", "10.0.0.0/8", now=years_ago)
        code, told = self.told(capsys, local)
        assert code == 0
        assert "move it and its key away, and run 'acmems ca init'" in told
