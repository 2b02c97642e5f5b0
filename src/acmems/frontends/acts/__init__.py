"""What an operator may ask for by a command: one file an act."""
