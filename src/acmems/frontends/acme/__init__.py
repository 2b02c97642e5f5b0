"""The front end of ACME clients (RFC 8555): an ACME server inside, under the same policy as `/sign`."""
