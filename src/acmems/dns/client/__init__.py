"""DNS as acmems asks it: servers that take updates, the zones of records, and when the world sees them."""
