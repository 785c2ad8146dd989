"""leanto_cloud: a private compute node. Opens sealed requests in memory, runs an engine, seals the answer, forgets.

Knows nothing of policies, devices or when a client asks. Start one with `leanto-cloud serve --development`.
"""
