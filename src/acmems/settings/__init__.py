"""From the text of configuration files to typed values; nothing outside is opened."""
