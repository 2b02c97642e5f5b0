"""What the DNS says of names is looked at before an order, so that none is spent on what must fail."""
