"""The artifact: a folder with a compressed model, as docs/format.md has it. Read, checked and written here; nothing of it runs.

folder.py         the whole, read and written          manifest.py      leanto.json and the hashes of the files
architecture.py   config.json as sizes and constants   layer_shapes.py  what differs between architectures
rope.py           rotary tables                        layout.py        which tensors a matrix is stored as
tensor_file.py    safetensors, mapped                  weight.py        a matrix as its tensors
factors.py        the low-rank factors
"""

from leanto_edge.artifact.folder import Artifact, annotate_artifact, read_artifact, read_matrices, read_tensors, write_artifact

__all__ = ["Artifact", "annotate_artifact", "read_artifact", "read_matrices", "read_tensors", "write_artifact"]
