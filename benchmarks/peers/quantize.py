"""Quantizes a GGUF file by the library in a Python package: `python quantize.py ik_llama_cpp|llama_cpp IN OUT TYPE IMPORTANCE`.

Runs under the Python that has the package. Only the speed of what it makes is asked for; llama_cpp's library takes no importance matrix.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Exit with what the program says."""
    package, plain, out, kind, importance = sys.argv[1:]
    if package == "ik_llama_cpp":
        import ik_llama_cpp

        binary = Path(str(ik_llama_cpp.__file__)).parent / "bin" / "llama-quantize"
        raise SystemExit(subprocess.run([binary, "--imatrix", importance, plain, out, kind, "2"], check=False).returncode)
    import llama_cpp.llama_cpp as c

    params: Any = c.llama_model_quantize_default_params()
    params.ftype, params.nthread = getattr(c, f"LLAMA_FTYPE_MOSTLY_{kind}"), 2
    raise SystemExit(c.llama_model_quantize(plain.encode(), out.encode(), params))


if __name__ == "__main__":
    main()
