"""What a resource of the ACME front end answers, before header fields that all answers have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from acmems.frontends.acme.problems import MEDIA_TYPE, AcmeProblem, document_of, encoded


@dataclass(frozen=True, slots=True)
class AcmeAnswer:
    """What a resource answers.

    Args:
        status: the HTTP status; RFC 8555 says which, and clients hold servers to it.
        document: what becomes the JSON content; None where there is none, or where `body` is it.
        headers: further header fields, such as `Location` and `Retry-After`.
        links: `Link` fields besides that of the directory, each whole: `<URL>;rel="up"`.
        body: the content, where it is no JSON document.
        content_type: the media type of the content.
    """

    status: int
    document: Mapping[str, Any] | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    links: tuple[str, ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    content_type: str = "application/json"

    @property
    def content(self) -> bytes:
        """The content as bytes."""
        return self.body if self.document is None else encoded(self.document)


def problem_answer(problem: AcmeProblem) -> AcmeAnswer:
    """Return the answer that tells a client of a problem."""
    return AcmeAnswer(problem.status, document_of(problem), dict(problem.headers), content_type=MEDIA_TYPE)
