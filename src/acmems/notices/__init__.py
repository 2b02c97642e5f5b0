"""What operators are told before it hurts, and how it gets to them.

- `notice`: one notice, as a frozen value
- `causes`: what is told, when it is told again, and when it is over: rules
- `troubles`: what there is to tell
- `watch`: looks for it
- `outbox`: delivers, and tries again; `direct` tells past the state, where that fails
- `targets`: what takes notices to people
"""
