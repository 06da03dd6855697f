"""How it is decoded: one protocol, the hand-written loops, and transformers' own generate."""
