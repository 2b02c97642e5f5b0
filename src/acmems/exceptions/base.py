"""What all errors have in common."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Self


class AcmeException(Exception):
    """Base of all errors of acmems, to catch every one of them.

    `copy.copy` makes one for another thread to raise: class, words and fields are the same, its
    traceback is its own.
    """

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[object, ...], dict[str, object]]:
        # Not by the constructor: what that takes are the fields, and what `args` holds are the words.
        return self.__new__, (type(self), *self.args), dict(vars(self))

    def with_words(self, words: str) -> Self:
        """Return an error like this one, in other words."""
        error = copy.copy(self)
        error.args = (words,)
        return error


class RetryableError(AcmeException):
    """An error that passes with time.

    Args:
        message: what happened.
        retry_after: seconds after which to ask again, None if nobody said.
    """

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
