"""CAA records: which CA may issue for a domain, for whom, and how (RFC 8659, RFC 8657)."""
