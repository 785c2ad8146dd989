"""Tells optimum-cli of `leanto`; Optimum looks for files in this namespace."""

from leanto_edge.transformers.optimum_cli import LeantoCommand

REGISTER_COMMANDS = [LeantoCommand]
