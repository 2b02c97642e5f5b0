"""What `acmems check` says of what works today and fails another day."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from acmems.commands import preflight
from acmems.config import Configuration
from acmems.exceptions import ConfigurationError
from acmems.issuers.acme.account import Account, AccountDirectory
from acmems.issuers.acme.key import AccountKey
from acmems.settings.findings import Finding

KEY = AccountKey.generate("ec256")
TERMS = "accept-terms-of-service = yes\n"
STORAGE = '[storage "disk"]\ntype = file\ndirectory = {folder}/chains\n'
AUTH = '[auth "web"]\nip = 192.0.2.0/24\ndomain = www.example.org\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with everything that the configurations name."""
    for name in ("account", "chains"):
        (tmp_path / name).mkdir(mode=0o700)
    return tmp_path


def configuration(
    folder: Path, *, account: str = TERMS, storage: str = STORAGE, auth: str = AUTH, more: str = ""
) -> Configuration:
    """Return a configuration that listens nowhere."""
    text = (
        f"[account]\ndir = {folder}/account\n{account}{storage.format(folder=folder)}{auth}"
        f'[mgmt]\nlistener =\n[verification "http"]\ntype = http01\nlistener =\n{more}'
    )
    path = folder / "acmems.ini"
    path.touch(mode=0o600)
    path.write_text(text)
    return Configuration.load(path)


def told(findings: list[Finding]) -> list[tuple[int, bool]]:
    """Return the lines that are told of, and whether only to warn."""
    return [(finding.location.line, finding.warning) for finding in findings]


def test_nothing_to_say(folder: Path) -> None:
    """Where all is well, nothing is said."""
    assert preflight.check(configuration(folder)) == []


class TestStorage:
    @pytest.mark.parametrize("storage", ["", STORAGE + STORAGE.replace("disk", "more")])
    def test_blocks_without_a_storage(self, folder: Path, storage: str) -> None:
        """Each block whose chains a restart loses is told, and what to add; a server starts all the same."""
        auth = AUTH + AUTH.replace("web", "mail")
        config = configuration(folder, storage=storage, auth=auth)
        findings = preflight.check(config)
        begin = 4 + storage.count("\n")
        assert told(findings) == [(begin, True), (begin + 3, True)]
        assert '[auth "web"] has no storage: its chains are kept in memory' in findings[0].message
        remedy = "'default-storage = …'" if storage else 'add a [storage "disk"]'
        assert all(remedy in finding.message for finding in findings)
        preflight.require(config)

    @pytest.mark.parametrize(
        ("storage", "auth"),
        [('[storage "n"]\ntype = none\n', AUTH), ("", AUTH + "storage = none\n")],
    )
    def test_those_who_want_none(self, folder: Path, storage: str, auth: str) -> None:
        """Who says that nothing is to be kept is not warned of it."""
        assert preflight.check(configuration(folder, storage=storage, auth=auth)) == []


class TestTerms:
    @pytest.mark.parametrize(("account", "line"), [("", 1), ("accept-terms-of-service = no\n", 3)])
    def test_a_first_start_needs_them(self, folder: Path, account: str, line: int) -> None:
        """Before there is an account, terms that are not accepted stop the start, and the remedy is told."""
        config = configuration(folder, account=account)
        [finding] = preflight.check(config)
        assert told([finding]) == [(line, False)]
        assert "add 'accept-terms-of-service = yes' to [account]" in finding.message
        with pytest.raises(ConfigurationError):
            preflight.require(config)
        preflight.require_account(config)  # 'account register' asks the CA whether it has any

    def test_a_key_without_registration(self, folder: Path) -> None:
        """With a key, the CA decides whether it has terms, so this is a warning."""
        AccountDirectory(folder / "account").save_key(KEY)
        assert told(preflight.check(configuration(folder, account=""))) == [(1, True)]

    def test_the_terms_of_an_account(self, folder: Path) -> None:
        """An account that exists has accepted its terms."""
        directory = AccountDirectory(folder / "account")
        directory.save_key(KEY)
        directory.save_registration(Account("https://acme-staging-v02.api.letsencrypt.org/acme/acct/1"))
        assert preflight.check(configuration(folder, account="")) == []


class TestRegistration:
    @pytest.fixture(autouse=True)
    def _registered(self, folder: Path) -> None:
        """Have an account at a CA."""
        directory = AccountDirectory(folder / "account")
        directory.save_key(KEY)
        directory.save_registration(Account("https://ca.example.org/account/1"))

    def test_of_another_ca(self, folder: Path) -> None:
        """A registration of another CA is told with both, and stops no start: its stored chains are good."""
        config = configuration(folder)
        [finding] = preflight.check(config)
        assert told([finding]) == [(2, True)]
        assert "is of another CA (https://ca.example.org/account/1)" in finding.message
        assert config.account.directory_url in finding.message
        preflight.require(config)

    @pytest.mark.parametrize(
        "account",
        [
            "acme-server = https://ca.example.org/directory\n",
            "acme-server = https://CA.example.org:443/directory\n",
            "acme-server = https://acme.example.org/directory\nacme-host = ca.example.org\n",
        ],
    )
    def test_of_this_ca(self, folder: Path, account: str) -> None:
        """A registration at the origin of the directory, or at one of its hosts, is of this CA."""
        assert preflight.check(configuration(folder, account=TERMS + account)) == []

    def test_that_is_none(self, folder: Path) -> None:
        """A registration that cannot be read as one is told, and stops no start."""
        (folder / "account" / "registration.json").write_text("{}")
        config = configuration(folder)
        [finding] = preflight.check(config)
        assert told([finding]) == [(2, True)]
        assert "nothing can be ordered: " in finding.message
        preflight.require(config)


class TestRoot:
    @pytest.mark.parametrize(("uid", "is_told"), [(0, True), (1000, False)])
    def test_root_in_the_place_of_another(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, uid: int, is_told: bool
    ) -> None:
        """Root is told whose directory it is about to make files in, which that user could not use."""
        stat = Path.stat

        def stat_of_another(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
            found = list(stat(path, follow_symlinks=follow_symlinks))
            found[4] = 4_000_000_000 if path.name == "account" else found[4]
            return os.stat_result(found)

        config = configuration(folder)
        monkeypatch.setattr(os, "geteuid", lambda: uid)
        monkeypatch.setattr(Path, "stat", stat_of_another)
        findings = preflight.check(config)
        assert told(findings) == ([(2, True)] if is_told else [])
        assert not is_told or "runuser -u 4000000000 -- acmems" in findings[0].message

    def test_a_start_tells_warnings(
        self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a start warns of is told, and the start goes on."""
        AccountDirectory(folder / "account").save_key(KEY)
        preflight.require(configuration(folder, account=""))
        err = capsys.readouterr().err
        assert err.startswith(f"{folder}/acmems.ini:1: warning: no account is registered yet")


class TestFiles:
    def test_a_configuration_with_secrets_that_everybody_can_read(self, folder: Path) -> None:
        """A secret in a file that everybody can read is told at the line of the secret, once for the file."""
        config = configuration(folder, auth=AUTH + f"hmac_key = {'ab12' * 16}\n")
        (folder / "acmems.ini").chmod(0o644)
        [finding] = preflight.check(config)
        assert told([finding]) == [(10, True)]
        assert "can read the secrets in" in finding.message

    @pytest.mark.parametrize("mode", [0o644, 0o646])
    def test_a_configuration_without_secrets(self, folder: Path, mode: int) -> None:
        """Without a secret everybody may read the configuration, and nobody else may change it."""
        config = configuration(folder)
        (folder / "acmems.ini").chmod(mode)
        assert told(preflight.check(config)) == ([(0, True)] if mode & 0o002 else [])

    @pytest.mark.parametrize(
        ("lines", "key"),
        [
            ("type = dns01-dnsUpdate\ntsig-name = k\ntsig-key-file = {file}", "read the secrets in"),
            (
                "type = dns01-provider\nprovider = gandi\noption = auth_token=file:{file}",
                "read the secrets in",
            ),
            ("type = dns01-exec\ncommand = {file}", "change"),
        ],
    )
    def test_files_of_verifications(self, folder: Path, lines: str, key: str) -> None:
        """Keys and tokens that everybody can read, and hooks that everybody can change, are told."""
        file = folder / "file"
        file.write_text("c2VjcmV0c2VjcmV0\n")
        file.chmod(0o757)
        more = f'[verification "v"]\n{lines.format(file=file)}\n'
        config = configuration(folder, auth=AUTH + "verification = http\n", more=more)
        findings = preflight.check(config)
        assert all(finding.warning and finding.location.line >= 16 for finding in findings)
        assert any(f"can {key} {file} (mode 0757)" in finding.message for finding in findings)

    @pytest.mark.parametrize("name", ["account", "chains"])
    def test_directories_that_everybody_can_write_to(self, folder: Path, name: str) -> None:
        """A directory of the account or of a storage that everybody can write to is told."""
        (folder / name).chmod(0o777)
        findings = preflight.check(configuration(folder))
        assert any("can change" in finding.message and finding.warning for finding in findings)

    def test_relative_paths(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A path that depends on where acmems is started is told for each key, with where that is now."""
        monkeypatch.chdir(folder)
        findings = preflight.check(configuration(Path(), storage=STORAGE))
        assert told(findings) == [(2, True), (6, True)]
        assert f"the directory that acmems is started in ({folder} now): write the whole path" in str(
            findings[0]
        )

    def test_a_comment_behind_a_path(self, folder: Path) -> None:
        """A comment that became a part of a path is told beside the path that is missing."""
        config = configuration(folder, storage=STORAGE.rstrip("\n") + "  # where chains are\n")
        findings = preflight.check(config)
        assert told(findings) == [(6, True), (6, False)]
        assert "what follows the '#' is part of the path" in findings[0].message


@pytest.mark.parametrize(
    ("secret", "is_weak"),
    [
        ("hunter2", True),
        ("0123456789abcde", True),
        ("secretsecretsecre", True),
        ("ab" * 32, True),
        ("4c1f5b2d9e7a8036", False),
        ("an-old-shared-secret", False),
        ("0cc175b9c0f1b6a831c399e269772661", False),
        ('"0cc175b9c0f1b6a831c399e269772661"', True),
    ],
)
def test_weak_secrets(secret: str, is_weak: bool) -> None:
    """A secret that is short, repeats itself or stands in quotes is a warning, which does not show it."""
    text = f'[account]\ndir = /a\n[auth "a"]\ndomain = a.example.org\nhmac_key = {secret}\n'
    warnings = Configuration.from_text(text, "a.ini").warnings
    assert [warning.location.line for warning in warnings] == ([5] if is_weak else [])
    assert not any(secret in str(warning) for warning in warnings)
