"""Orders as the CA states them, and which of them are open (RFC 8555 section 7.1.3)."""
