"""One command, one answer: no key, no network, and the reason for the route.

python examples/ask.py
"""

from __future__ import annotations

from leanto import Client


def main() -> None:
    with Client() as client:  # the embedded model and the default policy
        reply = client.ask("wake me at half past six on weekdays")
    print(reply.text)
    print(f"{reply.route}, {reply.decision.label}, {reply.latency_ms:.0f} ms")
    print(reply.decision.explain())


if __name__ == "__main__":
    main()
