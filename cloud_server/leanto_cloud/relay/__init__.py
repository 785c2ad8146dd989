"""Between client and node: a relay, which knows who asks and not what, and a gateway, which knows what is asked for and not who asks."""
