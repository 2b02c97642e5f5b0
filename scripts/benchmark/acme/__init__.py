"""The figure of ACME servers: acmems' ACME front end beside others, for one and the same client."""
