"""What only the published Python API needs."""
