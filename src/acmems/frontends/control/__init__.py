"""Acts from the command line, handed to the running server on a Unix socket."""
