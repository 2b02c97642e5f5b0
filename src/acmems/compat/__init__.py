"""What only the published Python API needs; nothing that serves imports it."""
