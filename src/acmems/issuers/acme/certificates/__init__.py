"""What a CA is asked around a certificate: whether the clocks agree on it, and which chain it comes with."""
