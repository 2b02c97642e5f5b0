"""The accounts of ACME clients: making, changing and ending them (RFC 8555 section 7.3)."""
