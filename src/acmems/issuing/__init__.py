"""From one accepted request to its chain, whoever issues it."""
