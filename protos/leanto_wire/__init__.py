"""leanto_wire: what both ends of the private compute leg must agree on: messages, sealing, evidence, status texts.

Knows nothing of models, of how a node generates, or of when a client asks. `docs/wire.md` is its specification.
"""
