"""Another key for the account (RFC 8555 section 7.3.5), while orders wait."""
