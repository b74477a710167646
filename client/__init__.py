"""Python client of the suite. Imports nothing of the servers: it is upgraded apart from them."""

from client.decode import Decoded, decode_frame, decode_records, decode_vector
from client.errors import ClientError, DecodeError

__all__ = [
    "ClientError",
    "DecodeError",
    "Decoded",
    "decode_frame",
    "decode_records",
    "decode_vector",
]
