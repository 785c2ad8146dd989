"""`leanto export`: an artifact as a file of another program. `gguf.py` writes GGUF, `gguf_tokenizer.py` the tokenizer in it."""
