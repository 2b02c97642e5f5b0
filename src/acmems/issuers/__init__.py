"""What turns a request into a chain: ACME CAs; and whether one is worth a request at the moment."""
