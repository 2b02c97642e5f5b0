"""What speaks to the CA with one account key, and the change to another (RFC 8555 section 7.3.5)."""
