"""Auth blocks and the configuration that they pick from."""

from __future__ import annotations

from collections.abc import Mapping

from acmems.auth import Block
from acmems.challenges import ChallengeResponses, Http01, Validator
from acmems.issuers.local.options import LocalCaOptions
from acmems.storages import NoStorage, Storage


class OneOfEach:
    """A configuration with one http-01 validator and one storage."""

    validators: Mapping[str, Validator] = {"http": Http01("http", (), ChallengeResponses())}
    storages: Mapping[str, Storage] = {"none": NoStorage("none")}
    accounts: Mapping[str, object] = {"": None}
    local_cas: Mapping[str, LocalCaOptions] = {}
    default_issuers = ("",)
    default_validators: tuple[Validator, ...] = (validators["http"],)
    default_storage: Storage = storages["none"]


def block(*pairs: tuple[str, str], name: str = "b") -> Block:
    """Return a block with these options."""
    return Block(name, pairs, OneOfEach())
