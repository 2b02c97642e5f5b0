"""What the operating system gives: time, files, the service manager."""
