"""Generated messages and stubs of `leanto.v1`; `python protos/generate.py` makes them from the .proto files beside them."""
