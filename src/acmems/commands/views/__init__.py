"""What commands show of the state: one file a command, and how it is written down."""
