"""Python client of the suite. Imports nothing of the servers: it is upgraded apart from them."""
