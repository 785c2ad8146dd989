"""One-time tokens that nobody can link to their issuing: Privacy Pass type 2 (RFC 9578) over blind RSA (RFC 9474).

Knows nothing of HTTP, files or accounts.
"""

from leanto_wire.tokens.privacy_pass import TOKEN_BYTES, PendingToken, PublicKey, Token, TokenChallenge, request_token

__all__ = ["TOKEN_BYTES", "PendingToken", "PublicKey", "Token", "TokenChallenge", "request_token"]
