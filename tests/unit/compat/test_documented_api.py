"""The published Python API, as literal data: names, bases, signatures, attributes and errors."""

from __future__ import annotations

import datetime
import importlib
import inspect
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from pyasn1_modules import rfc5280

from acmems.config import Configuration
from acmems.exceptions import AcmeException
from acmems.manager import ACMEManager

# Bases as published; `SubjectAltName` had the class of an abandoned library, which the RFC's own replaces.
BASES: Mapping[str, type | str] = {
    "manager.ACMEManager": object,
    "server.ACMEAbstractHandler": BaseHTTPRequestHandler,
    "server.ACMEHTTPHandler": "server.ACMEAbstractHandler",
    "server.ACMEMgmtHandler": "server.ACMEAbstractHandler",
    "auth.SubjectAltName": rfc5280.SubjectAltName,
    "auth.IPAuthMethod": object,
    "auth.HmacAuthMethod": object,
    "auth.AllAuthMethod": object,
    "auth.Block": object,
    "auth.Processor": object,
    "config.Configuration": object,
    "exceptions.AcmeException": Exception,
    "exceptions.NoChallengeMethodsSupported": "exceptions.AcmeException",
    "exceptions.ChallengeFailed": "exceptions.AcmeException",
    "exceptions.ChallengesUnknownStatus": "exceptions.AcmeException",
    "exceptions.AuthorizationNotYetProcessed": "exceptions.AcmeException",
    "exceptions.AuthorizationNotYetRequested": "exceptions.AcmeException",
    "exceptions.RateLimited": "exceptions.AcmeException",
    "exceptions.AccountError": "exceptions.AcmeException",
    "exceptions.NeedToAgreeToTOS": "exceptions.AccountError",
    "exceptions.InvalidDomainName": "exceptions.AcmeException",
    "exceptions.PayloadToLarge": "exceptions.AcmeException",
    "exceptions.PayloadInvalid": "exceptions.AcmeException",
}

SIGNATURES = {
    "manager.ACMEManager": "(config, connect=True)",
    "manager.ACMEManager.log": "(self, *args)",
    "manager.ACMEManager.connect": "(self)",
    "manager.ACMEManager.load_private_key": "(self)",
    "manager.ACMEManager.create_private_key": "(self, force=False, key_size=4096)",
    "manager.ACMEManager.init_client": "(self)",
    "manager.ACMEManager.acquire_domain_validations": "(self, validator, domains)",
    "manager.ACMEManager.evaluate_domain_authorization": "(self, authzr, validator, refresh_timer=None)",
    "manager.ACMEManager.refresh_domain_authorization": "(self, validator, domain)",
    "manager.ACMEManager.new_domain_authorization": "(self, validator, domain)",
    "server.ACMEAbstractHandler": "(request, client_address, server)",
    "server.ACMEAbstractHandler.send_data": "(self, data, content_type='text/plain', response_code=200)",
    "server.ACMEHTTPHandler": "(validator, *args, **kwargs)",
    "server.ACMEHTTPHandler.do_GET": "(self)",
    "server.ACMEMgmtHandler": "(request, client_address, server)",
    "server.ACMEMgmtHandler.do_POST": "(self)",
    "auth.SubjectAltName": "(componentType=None, tagSet=None, subtypeSpec=None, sizeSpec=None)",
    "auth.IPAuthMethod": "(ips=None)",
    "auth.HmacAuthMethod": "()",
    "auth.AllAuthMethod": "()",
    "auth.Block": "(name, options, config)",
    "auth.Processor": "(auth, client_address, headers, rfile)",
    "auth.Processor.acceptable": "(self)",
    "exceptions.ChallengeFailed": "(domain, message, challenge_uri)",
    "exceptions.AuthorizationNotYetProcessed": "(wait_until)",
    "exceptions.AuthorizationNotYetRequested": "(event)",
    "exceptions.NeedToAgreeToTOS": "(url)",
    "exceptions.InvalidDomainName": "(domain, detail)",
    "exceptions.PayloadToLarge": "(size, allowed)",
}

# Errors that were published with arguments, and fields of the same names.
FIELDS: Mapping[str, Mapping[str, object]] = {
    "exceptions.ChallengeFailed": {
        "domain": "a.example.org",
        "message": "no route",
        "challenge_uri": "https://ca.example.org/challenge/1",
    },
    "exceptions.AuthorizationNotYetProcessed": {
        "wait_until": datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    },
    "exceptions.AuthorizationNotYetRequested": {"event": threading.Event()},
    "exceptions.NeedToAgreeToTOS": {"url": "https://ca.example.org/terms"},
    "exceptions.InvalidDomainName": {"domain": "a.example.org", "detail": "policy"},
    "exceptions.PayloadToLarge": {"size": 5000, "allowed": 4096},
}

WITHOUT_ARGUMENTS = sorted(
    name for name in BASES if name.startswith("exceptions.") and name not in SIGNATURES
)


def published(name: str) -> Any:
    """Return what stands under a published name."""
    module, *path = name.split(".")
    found: Any = importlib.import_module(f"acmems.{module}")
    for attribute in path:
        found = getattr(found, attribute)
    return found


def signature(of: Any) -> str:
    """Return a signature without annotations, and without what callers of the published API can leave out."""
    given = inspect.signature(of)
    kept = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in given.parameters.values()
        if parameter.kind is not parameter.KEYWORD_ONLY or parameter.default is parameter.empty
    ]
    return str(given.replace(parameters=kept, return_annotation=inspect.Signature.empty))


@pytest.mark.parametrize("name", BASES)
def test_every_class_has_its_name_and_base(name: str) -> None:
    """Each published class is where it was, and is a subclass of its published base."""
    base = BASES[name]
    found = published(name)
    assert found.__name__ == name.rpartition(".")[2]
    assert issubclass(found, published(base) if isinstance(base, str) else base)


@pytest.mark.parametrize("name", SIGNATURES)
def test_every_signature(name: str) -> None:
    """Each published callable takes the published arguments; more of them are optional and keyword-only."""
    assert signature(published(name)) == SIGNATURES[name]


@pytest.mark.parametrize("name", FIELDS)
def test_every_error_carries_its_arguments(name: str) -> None:
    """The arguments of an error are its fields, given by position or by name; its text is one line."""
    fields = FIELDS[name]
    for error in (published(name)(*fields.values()), published(name)(**fields)):
        assert {field: getattr(error, field) for field in fields} == fields
        assert str(error)
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", WITHOUT_ARGUMENTS)
def test_an_error_without_arguments_takes_a_message(name: str) -> None:
    """Errors that were published without arguments are raised bare, or with a message."""
    assert str(published(name)()) == ""
    assert str(published(name)("what happened")) == "what happened"


def test_one_base_catches_every_error() -> None:
    """Every public error of `acmems.exceptions` is an AcmeException."""
    errors = [
        value
        for name, value in vars(importlib.import_module("acmems.exceptions")).items()
        if inspect.isclass(value) and issubclass(value, BaseException) and not name.startswith("_")
    ]
    assert len(errors) >= len(WITHOUT_ARGUMENTS) + len(FIELDS)
    assert [error for error in errors if not issubclass(error, AcmeException)] == []


def test_a_manager_shows_its_state(tmp_path: Path) -> None:
    """A manager has `responses` and `authzrs`, empty dicts at first, and the `config` that it was given."""
    config = Configuration.from_text(f"[account]\ndir = {tmp_path}\n")
    manager = ACMEManager(config, connect=False)
    assert manager.config is config
    assert (manager.responses, manager.authzrs) == ({}, {})
    assert isinstance(manager.responses, dict)
    assert isinstance(manager.authzrs, dict)
    manager.close()


def test_a_manager_logs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`log` takes anything, and writes one line of it at level info."""
    caplog.set_level("INFO")
    manager = ACMEManager(Configuration.from_text(f"[account]\ndir = {tmp_path}\n"), connect=False)
    manager.log("step", 2, {"of": 3})
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "step 2 {'of': 3}")
    ]
    manager.close()
