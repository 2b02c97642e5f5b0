"""The ACME front end of a server, put together."""
