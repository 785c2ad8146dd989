"""Oblivious HTTP between a client and a gateway: RFC 9458's key configuration, its chunked form, and the binary HTTP inside (RFC 9292).

Whoever carries the bytes sees neither request nor answer; the gateway sees both and not who asks. Knows nothing of sockets, nor of what
the HTTP messages are for. Needs pycryptodome, whose HPKE contexts export secrets.
"""

REQUEST_TYPE = "message/ohttp-chunked-req"
RESPONSE_TYPE = "message/ohttp-chunked-res"
