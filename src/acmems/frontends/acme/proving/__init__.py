"""How this server looks at what ACME clients present to prove a name (RFC 8555 section 8).

Where it looks is decided by strangers, and so is what it finds there. Each look has an absolute deadline and
a bounded size; an address is judged right before the connection to it, and connected to as it was judged.
"""
