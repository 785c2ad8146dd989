"""`python -m leanto_cloud` is the `leanto-cloud` command."""

from __future__ import annotations

import sys

from leanto_cloud.cli import main

if __name__ == "__main__":
    sys.exit(main())
