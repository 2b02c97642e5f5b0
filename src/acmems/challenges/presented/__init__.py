"""What is presented to the CA at this moment, and what a crash leaves of it."""
