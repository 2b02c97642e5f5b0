"""What a server does from time to time, though nobody asks for it.

- `threads`: all of it, each in a thread of its own
- `renewals`: which chains are due, and that they are renewed
"""
