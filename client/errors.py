"""The errors of the client.

::

    ClientError
    └── DecodeError    what a device sent is not what it should be    (also ValueError)
"""

from __future__ import annotations


class ClientError(Exception):
    """Base of all errors of the client."""


class DecodeError(ClientError, ValueError):
    """What a device sent is not what it should be; the message tells which part of it."""
