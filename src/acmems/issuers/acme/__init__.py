"""Everything that speaks to an ACME CA (RFC 8555)."""
