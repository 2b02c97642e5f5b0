"""Other programs that change DNS: run with a time limit, and dns-lexicon in a process of its own."""
