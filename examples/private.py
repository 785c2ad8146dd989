"""A private request stays on the device, even where everything speaks for the cloud.

python examples/private.py
"""

from __future__ import annotations

from leanto import Client
from leanto.demo.local_node import LocalNode

PROMPT = "send an email to priya that my test results are back"


def main() -> None:
    with LocalNode() as node, Client(cloud=node.target, simulate="battery=5%") as client:
        for private in (False, True):
            decision = client.ask(PROMPT, private=private).decision
            print(f"private={private!s:<5} {decision.route:<6} {decision.bytes_sent:>5} bytes sent ({decision.label})")


if __name__ == "__main__":
    main()
