"""A story that starts on the edge and goes on in the cloud from the first doubt, without a seam.

python examples/stream.py
"""

from __future__ import annotations

from dataclasses import replace

from leanto import Client, FinalEvent, HandoffEvent, TextEvent, default_policy
from leanto.demo.local_node import LocalNode


def main() -> None:
    policy = default_policy()
    wary = replace(policy, handoff=replace(policy.handoff, stream_floor=-1.0, window=8, hold_tokens=4))
    with LocalNode() as node, Client(cloud=node.target, policy=wary) as client:
        for event in client.stream("Once upon a time there was a small red boat.", task="text"):
            match event:
                case TextEvent():
                    print(event.text, end="", flush=True)
                case HandoffEvent():
                    print(f"\n[{event.source} → {event.target} after {event.visible_chars} characters: {event.reason}]", end="")
                case FinalEvent():
                    decision = event.reply.decision
                    spent = f"{decision.local_tokens} local, {decision.cloud_tokens} cloud, {decision.wasted_tokens} wasted tokens"
                    print(f"\n{decision.route}: {spent}")


if __name__ == "__main__":
    main()
