"""What the ACME front end keeps in the state: accounts, nonces that were used, orders."""
