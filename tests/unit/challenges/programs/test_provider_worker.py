"""What a worker makes of a provider that fails, and what it tells of that."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import requests
from lexicon.exceptions import AuthenticationError, ProviderNotAvailableError

from acmems.challenges.programs import provider_worker

NAME = "_acme-challenge.www.example.org"
VALUE = "value"


class Provider:
    """A zone that fails when it is changed."""

    def __init__(self, *values: str, fails_to_list: bool = False) -> None:
        self.values = values
        self.fails_to_list = fails_to_list

    def create_record(self, rtype: str, name: str, content: str) -> bool:
        raise ConnectionResetError(f"{rtype} {name} {content}")

    def delete_record(
        self,
        identifier: str | None = None,
        rtype: str | None = None,
        name: str | None = None,
        content: str | None = None,
    ) -> bool:
        raise ConnectionResetError(f"{identifier} {rtype} {name} {content}")

    def list_records(
        self, rtype: str | None = None, name: str | None = None, content: str | None = None
    ) -> list[dict[str, Any]]:
        if self.fails_to_list:
            raise TimeoutError
        return [{"type": rtype, "name": name, "content": value} for value in self.values]


class TestAdd:
    @pytest.mark.parametrize("shown", [VALUE, f'"{VALUE}"'])
    def test_a_record_that_is_there_already_is_no_error(self, shown: str) -> None:
        """A provider that refuses to add a record twice has it: quoted or not, that is enough."""
        provider_worker._add(Provider("other", shown), NAME, VALUE)

    @pytest.mark.parametrize("provider", [Provider("other"), Provider(VALUE, fails_to_list=True)])
    def test_a_record_that_is_not_there_is_the_first_error(self, provider: Provider) -> None:
        """Where the record is missing, or cannot be looked for, the error of adding it is raised."""
        with pytest.raises(ConnectionResetError):
            provider_worker._add(provider, NAME, VALUE)


class TestRemove:
    def test_a_record_that_is_gone_already_is_no_error(self) -> None:
        """A provider that refuses to delete a missing record has nothing to delete."""
        provider_worker._remove(Provider("other"), NAME, VALUE)

    @pytest.mark.parametrize("provider", [Provider(VALUE), Provider(fails_to_list=True)])
    def test_a_record_that_stays_is_the_first_error(self, provider: Provider) -> None:
        """Where the record is still there, or cannot be looked for, the error of deleting it is raised."""
        with pytest.raises(ConnectionResetError):
            provider_worker._remove(provider, NAME, VALUE)


def refused(status: int) -> requests.HTTPError:
    """Return the error of an answer with this status."""
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("for url: https://dns.example/?key=hunter2", response=response)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (refused(401), "authentication was refused: HTTP 401"),
        (refused(500), "HTTP 500"),
        (AuthenticationError("hunter2"), "authentication was refused, or the zone is not in this account"),
        (ProviderNotAvailableError("hunter2"), "it needs packages that are not installed"),
        (requests.ReadTimeout("hunter2"), "it did not answer in time"),
        (TimeoutError("hunter2"), "it did not answer in time"),
        (requests.exceptions.SSLError("hunter2"), "its TLS certificate is not trusted"),
        (ssl.SSLError("hunter2"), "its TLS certificate is not trusted"),
        (requests.ConnectionError("hunter2"), "it cannot be reached"),
        (KeyError("hunter2"), "KeyError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_are_told_by_their_class(error: Exception, reason: str) -> None:
    """What is told follows from the class of an error: its words may hold secrets."""
    assert provider_worker._reason(error) == reason
