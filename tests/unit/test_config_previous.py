"""A configuration that takes the place of another one in a running server."""

from __future__ import annotations

import pytest

from acmems.config import Configuration
from acmems.exceptions import ConfigurationError

ACCOUNT = "[account]\ndir = /var/lib/acmems\n"
AUTH = '[auth "all"]\nall = yes\ndomain = **\n'


class TestPrevious:
    """A configuration that takes the place of another one in a running server."""

    TEXT = (
        f"{ACCOUNT}{AUTH}"
        '[verification "web"]\ntype = http01\n'
        '[verification "tls"]\ntype = tls-alpn01\n'
        '[verification "dns"]\ntype = dns01-server\nzone = a.example.org\nns = ns.example.org\n'
        '[storage "file"]\ntype = file\ndirectory = /a\n'
        "[mgmt]\ndefault-verification = web\n"
    )

    def test_what_is_the_same_is_the_same_object(self) -> None:
        """Verifications and storages whose sections say the same go on, wherever they stand now."""
        before = Configuration.from_text(self.TEXT)
        after = Configuration.from_text(f"# a line more\n{self.TEXT}", previous=before)
        assert after.validators == before.validators
        assert after.storages["file"] is before.storages["file"]
        assert after.auth.blocks[0].validators[0] is before.validators["web"]
        assert after.auth.blocks[0].storage is before.storages["file"]

    @pytest.mark.parametrize(
        ("kind", "name", "line"),
        [
            ("validators", "web", "listener = 127.0.0.1:1380"),
            ("validators", "dns", "rate-limit = 7"),
            ("storages", "file", "renew-within = 7"),
        ],
    )
    def test_what_has_changed_is_made_anew(self, kind: str, name: str, line: str) -> None:
        """A section that says something else is another object; the others stay."""
        before = Configuration.from_text(self.TEXT)
        text = self.TEXT.replace(f'"{name}"]\n', f'"{name}"]\n__', 1)
        head, _, rest = text.partition("__")
        first, _, rest = rest.partition("\n")
        after = Configuration.from_text(f"{head}{first}\n{line}\n{rest}", previous=before)
        assert getattr(after, kind)[name] is not getattr(before, kind)[name]
        assert {
            each for each in before.validators if after.validators[each] is before.validators[each]
        } == before.validators.keys() - {name}

    def test_the_tables_stay(self) -> None:
        """What was presented is found in the tables of a server, whatever becomes of its section."""
        before = Configuration.from_text(self.TEXT)
        after = Configuration.from_text(f"{ACCOUNT}{AUTH}", previous=before)
        assert after.responses is before.responses
        assert after.context is before.context

    def test_a_bad_one_changes_nothing(self) -> None:
        """A configuration with a mistake leaves that of before as it was."""
        before = Configuration.from_text(self.TEXT)
        known = dict(before.validators)
        with pytest.raises(ConfigurationError):
            Configuration.from_text(self.TEXT.replace("type = http01", "type = http02"), previous=before)
        assert before.validators == known
