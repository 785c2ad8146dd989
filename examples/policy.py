"""A policy file decides, a rehearsal shows what it would do on another device.

python examples/policy.py
"""

from __future__ import annotations

from leanto import Client, PolicyError, parse_policy
from leanto.demo.local_node import LocalNode

POLICY = """
version = 1

[privacy.classes]
health = ["local"]            # our own class: never leaves the device

[budgets]
battery_floor_percent = 30    # lean early when unplugged

[quality.confidence_threshold]
call = 0.8
"""


def main() -> None:
    policy = parse_policy(POLICY, origin="examples/policy.py")
    with LocalNode() as node:
        for device in ("battery=80%", "battery=20%", "battery=20%,link=down"):
            with Client(policy=policy, cloud=node.target, simulate=device) as client:
                planned = client.explain("turn off the lights in the hallway")
                health = client.explain("remind me to take my pills", privacy="health")
            print(f"{device:<24} starts {planned.route:<6} ({planned.label or 'nothing against it'}); health starts {health.route}")
    try:
        parse_policy("version = 1\n[budgets]\nbatery_floor_percent = 30")
    except PolicyError as error:
        print(error)


if __name__ == "__main__":
    main()
