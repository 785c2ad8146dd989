"""Engines: what turns a request into tokens. `base` is the interface; each other module is one engine."""
