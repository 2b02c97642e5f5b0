"""Accounts of ACME clients: RFC 8555 section 7.3."""

from __future__ import annotations

from tests.acme_client import AcmeClient


def test_thin(client: AcmeClient) -> None:
    answer = client.register(contact=["mailto:a@example.org"])
    assert answer.status == 201, answer
    assert client.post(answer.location).json["status"] == "valid"
    assert client.register().status == 200
