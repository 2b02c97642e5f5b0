"""The front end of EST clients (RFC 7030, RFC 8951), such as routers, under the same policy as `/sign`."""
