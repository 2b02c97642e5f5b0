"""What those say who have authority for names, and nobody else: as CAs ask, from the top of the DNS down."""
