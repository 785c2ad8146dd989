"""The cloud leg: a node is verified, a request sealed to it, and its answer opened. Nothing here imports gRPC before the first call.

leg.py              what the cascade needs of a cloud            target.py           where a node is and what it must prove
configured.py       from a policy to a leg                       node.py             the leg to one node
call.py             what is asked and answered                   sealed_session.py   one channel: evidence, then sealed calls
sealed_answer.py    opens the chunks of an answer                release_log.py      what the node's release must stand in
channel.py          gRPC to the node                             relayed.py          through a relay instead
wallet.py           one-time tokens                              breaker.py, hedging.py   when a node fails or is slow
"""

from leanto.remote.call import RemoteCall, RemoteChunk, RemoteRequest, remote_request
from leanto.remote.node import RemoteLeg
from leanto.remote.target import Relay, ReleaseLog, RemoteTarget, Tls, TokenSource

__all__ = [
    "Relay",
    "ReleaseLog",
    "RemoteCall",
    "RemoteChunk",
    "RemoteLeg",
    "RemoteRequest",
    "RemoteTarget",
    "Tls",
    "TokenSource",
    "remote_request",
]
