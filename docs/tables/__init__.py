"""Tables of the documentation, made from the code; see `docs/generate.py`."""
