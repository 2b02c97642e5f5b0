"""http-01 as the server that fetches: URLs, answers, and the check (RFC 8555 section 8.3)."""
