"""`leanto demo`: a private node on loopback (`local_node.py`) and requests (`cases.py`) through the whole journey (`journey.py`)."""
