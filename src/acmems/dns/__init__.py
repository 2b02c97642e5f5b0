"""DNS as a client and as a server."""
