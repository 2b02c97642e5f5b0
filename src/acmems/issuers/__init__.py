"""What turns a request into a chain: ACME CAs."""
