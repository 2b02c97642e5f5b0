"""Blocks that anyone may use."""

from __future__ import annotations

import contextlib
from typing import ClassVar

from acmems.auth.methods.caller import Caller
from acmems.settings import values
from acmems.settings.options import Options


class AllAuthMethod:
    """Allow all authentication."""

    KEYS: ClassVar = ("all",)

    @classmethod
    def from_options(cls, options: Options) -> AllAuthMethod | None:
        """Return the method of a block, None where it does not say `all = yes`."""
        anyone = options.one("all", values.boolean, default=False, meaning="`yes`: accept anyone")
        return cls() if anyone else None

    @staticmethod
    def is_refused(options: Options) -> bool:
        """Tell whether a block says `all = no`."""
        given = [option.value for option in options.section.options if option.key == "all"]
        with contextlib.suppress(ValueError):
            return bool(given) and not values.boolean(given[0])
        return False

    def may_accept(self, caller: Caller) -> bool:  # noqa: ARG002 - the contract
        """Accept."""
        return True

    def refusal(self, caller: Caller, body: bytes) -> str | None:  # noqa: ARG002 - the contract
        """Accept."""
        return None

    def accepts(self, caller: Caller, body: bytes) -> bool:  # noqa: ARG002 - the contract
        """Accept."""
        return True
