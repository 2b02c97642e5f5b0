"""What the documentation says, held against the code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from docs._ext.command_reference import parsers
from docs._ext.configuration_reference import sections, table, written
from tests.viewing import StateToLookAt, looking_at

from acmems import __version__
from acmems.commands import main as cli
from acmems.commands.tables import Column
from acmems.commands.views import certificates, events
from acmems.commands.views.buckets import BucketView
from acmems.config import Configuration, configuration
from acmems.frontends.problems import STATUS
from acmems.issuing.limits.gcra import Fill
from acmems.issuing.limits.limit import LETSENCRYPT
from acmems.net.address import Address
from acmems.settings.options import KeyDeclaration
from acmems.storages import FileStorage

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
KEYS = [(name, key) for name, keys in sections().items() for key in keys]
ACCOUNT = "[account]\ndir = /var/lib/acmems/account\n"


@pytest.fixture
def state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[StateToLookAt]:
    """A state to look at."""
    with looking_at(tmp_path, capsys) as made:
        yield made


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of one language on a page."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"))


def values(settings: Configuration) -> list[object]:
    """Return what a configuration holds that compares by value."""
    return [
        settings.account,
        settings.mgmt,
        settings.logging,
        sorted(settings.storages),
        settings.auth.max_size,
    ]


@pytest.mark.parametrize(("section", "key"), KEYS, ids=lambda value: getattr(value, "keys", [value])[0])
def test_every_key_has_a_meaning(section: str, key: KeyDeclaration) -> None:
    """The reference shows each key with what it means, its other names and its default."""
    assert key.meaning, f"{section}: {key.keys[0]}"
    shown = table([key]).astext()
    for word in (*key.keys, key.meaning.replace("`", ""), *written(key.default)):
        assert word in shown
    rest = shown.replace(key.meaning.replace("`", ""), "")
    assert ("required" in rest) is key.required
    assert ("may be given several times" in shown) is key.repeatable


def test_every_section_is_shown_once() -> None:
    """The page of the configuration shows the keys of every kind and type of section, each once."""
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"(?m)^```\{configuration-keys\} (.+)$", text)) == sorted(sections())
    kinds = {name.partition(" ")[0] for name in sections()}
    assert kinds == {*configuration.KINDS}


def test_every_command_is_shown_once() -> None:
    """The page of the command line shows the options of every command, each once."""
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"(?m)^```\{command-options\} (.+)$", text)) == sorted(parsers())


@pytest.mark.parametrize(
    ("default", "text"),
    [
        (None, []),
        ((), []),
        (False, ["no"]),
        (True, ["yes"]),
        (4096, ["4096"]),
        (120.0, ["120"]),
        (2.5, ["2.5"]),
        ("ec256", ["ec256"]),
        ((Address("127.0.0.1", 1313), Address("::1", 1313)), ["127.0.0.1:1313", "[::1]:1313"]),
    ],
)
def test_defaults_are_written_as_in_a_file(default: object, text: list[str]) -> None:
    """Defaults are printed as a person writes them."""
    assert written(default) == text


def test_defaults_are_what_holds_without_them() -> None:
    """Writing every printed default of the sections without a name into a file changes nothing."""
    lines = [ACCOUNT]
    for kind in configuration._UNNAMED:
        lines.append("" if kind == "account" else f"[{kind}]")
        lines += [f"{key.keys[0]} = {text}" for key in sections()[kind] for text in written(key.default)]
    given = Configuration.from_text("\n".join(lines))
    assert values(given) == values(Configuration.from_text(ACCOUNT))


@pytest.mark.parametrize("example", [example for page in PAGES for example in blocks(page, "ini")])
def test_examples_are_accepted(example: str) -> None:
    """Each configuration that a page shows is accepted, with an account where it leaves that out."""
    text = example if "[account]" in example else ACCOUNT + example
    warnings = Configuration.from_text(text).warnings
    assert [warning for warning in warnings if "[auth]" not in str(warning)] == []


def test_seven_settings_are_seven() -> None:
    """The first configuration of README has seven settings, warns of nothing, and keeps its chains."""
    [example] = blocks(ROOT / "README.md", "ini")
    assert len(re.findall("(?m)^[a-z-]+ = ", example)) == 7
    config = Configuration.from_text(example)
    assert config.warnings == ()
    assert isinstance(config.auth.blocks[0].storage, FileStorage)


def test_every_status_is_explained() -> None:
    """Each HTTP status that the code can answer, and no other error, has a row in the table of statuses."""
    page = (DOCS / "http.md").read_text(encoding="utf-8")
    listed = {int(number) for number in re.findall(r"(?m)^\| (\d{3}) \|", page)}
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    answered = {int(number) for number in re.findall(r"HttpRefusal\(\s*(\d{3})", sources)}
    assert listed == {200, 202, 304} | answered | set(STATUS.values())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    """Each relative link of a page leads to a file of this repository."""
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).is_file()] == []


def test_changelog_begins_with_this_version() -> None:
    """The newest version in the changelog is the one that the package has."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(r"(?m)^## (\S+)", text)
    assert found
    assert found[1] == __version__


def test_commands_are_those_of_the_program() -> None:
    """The page of operations names every command of `acmems --help`, and no other."""
    page = (DOCS / "operations.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?m)^\| `acmems (\w+)", page))
    done = subprocess.run(
        [sys.executable, "-m", "acmems", "--help"], capture_output=True, text=True, check=True
    )
    assert named == set(re.findall(r"(?m)^    (\w+) ", done.stdout)) - {"COMMAND"}


def test_members_of_explain_are_documented(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The page of operations has a row for each member of the JSON document, in the same order."""
    (tmp_path / "acmems.ini").write_text(ACCOUNT + '[auth "web"]\nall = yes\ndomain = **\n')
    cli.main(["explain", str(tmp_path / "acmems.ini"), "--address", "192.0.2.7", "--json"])
    document = json.loads(capsys.readouterr().out)
    page = (DOCS / "operations.md").read_text(encoding="utf-8")
    section = page.partition("## What the policy answers")[2].partition("\n## ")[0]
    assert re.findall(r"(?m)^\| `(\w+)` \|", section) == list(document)
    row = section.partition("| `blocks` |")[2].partition("\n")[0]
    assert re.findall(r"`(\w+)`", row) == list(document["blocks"][0])


def members_after(heading: str) -> list[str]:
    """Return the members that the page of operations documents under a heading, in its order."""
    page = (DOCS / "operations.md").read_text(encoding="utf-8")
    section = re.split(r"(?m)^##+ ", page.partition(f"# {heading}\n")[2])[0]
    return re.findall(r"(?m)^\| `(\w+)` \|", section)


def test_members_of_what_is_looked_at_are_documented(state: StateToLookAt) -> None:
    """The page of operations has a row for each member of these JSON documents, in the same order."""
    state.keep("one", "a.example.org")
    state.happen(1, "refused", 1, names=("a.example.org",), status=429)
    state.pause('name:["a.example.org", "https://ca"]', "no")
    _, listed = state.document("list")
    _, shown = state.document("show", "a.example.org")
    _, happened = state.document("events")
    _, limits = state.document("limits")
    used = BucketView(LETSENCRYPT[0], "", None, Fill(0, 300, 0))
    assert list(used.document()) == members_after("What is used")
    certificate = members_after("Certificates and events")
    assert [list(each) for each in (listed, shown, happened, limits)] == [
        ["certificates"],
        ["found"],
        ["events"],
        ["limits", "pauses", "refusals"],
    ]
    assert list(listed["certificates"][0]) == certificate
    assert list(shown["found"][0]) == certificate + members_after("One certificate")
    for each in (happened["events"], limits["refusals"], shown["found"][0]["events"]):
        assert list(each[0]) == members_after("What happened")
    for each in (limits["pauses"], shown["found"][0]["pauses"]):
        assert list(each[0]) == members_after("What is not ordered for now")


@pytest.mark.parametrize(
    ("command", "columns"),
    [("list", certificates.COLUMNS), ("events", events.COLUMNS)],
    ids=["list", "events"],
)
def test_tables_are_as_the_page_shows_them(command: str, columns: Sequence[Column]) -> None:
    """The titles of the examples are those of the columns."""
    shown = [
        text for text in blocks(DOCS / "operations.md", "console") if text.startswith(f"$ acmems {command} ")
    ]
    assert shown
    for text in shown:
        assert text.splitlines()[1].split() == " ".join(column.title for column in columns).split()


def test_members_of_state_check_are_documented(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The page of operations has a row for each member of the JSON document, in the same order."""
    (tmp_path / "account").mkdir(mode=0o700)
    config = tmp_path / "acmems.ini"
    config.write_text(f'[account]\ndir = {tmp_path}/account\n[auth "web"]\nall = yes\ndomain = **\n')
    cli.main(["state", "migrate", str(config)])
    capsys.readouterr()
    cli.main(["state", "check", str(config), "--json"])
    document = json.loads(capsys.readouterr().out)
    page = (DOCS / "operations.md").read_text(encoding="utf-8")
    section = page.partition("## Looking at the state")[2].partition("\n## ")[0]
    assert re.findall(r"(?m)^\| `(\w+)` \|", section) == list(document)
    shown = re.findall(r"(?m)^(\w+)  ", section)
    assert shown == ["state", "revision", "database", *document["rows"], "damaged"]


def test_explain_prints_what_the_page_shows(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example of `explain` is what the command prints for the complete example of a configuration."""
    [shown] = [
        text for text in blocks(DOCS / "operations.md", "console") if text.startswith("$ acmems explain")
    ]
    command, _, expected = shown.partition("\n")
    path = tmp_path / "acmems.ini"
    path.write_text(blocks(DOCS / "configuration.md", "ini")[-1])
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    cli.main(command.replace("/etc/acmems/acmems.ini", str(path)).split()[2:])
    assert capsys.readouterr().out == expected
