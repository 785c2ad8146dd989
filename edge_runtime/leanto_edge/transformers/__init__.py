"""Lets transformers load an artifact: after `import leanto_edge.transformers`, `AutoModelForCausalLM.from_pretrained(path)` does.

quantizer.py   registers with transformers, reads and saves   layers.py          modules over the stored tensors
gpu.py         their products in Triton                       optimum.py, optimum_cli.py   the same by way of Optimum
"""

from leanto_edge.transformers.quantizer import check_version, save_artifact

__all__ = ["check_version", "save_artifact"]
