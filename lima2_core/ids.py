"""Names for the integers and texts that identify things, so that they cannot be mixed up."""

from typing import NewType

AcqId = NewType("AcqId", str)
"""One acquisition: the uuid given by the client to Prepare, canonical lower case text."""

FrameIdx = NewType("FrameIdx", int)
"""Number of a frame in the whole acquisition, from 0, the same whichever receiver takes it."""

LocalIdx = NewType("LocalIdx", int)
"""Number of a frame (or kept gap) among those of one receiver, from 0: its row in the files."""

ReceiverIdx = NewType("ReceiverIdx", int)
"""Position of a receiver in the system, from 0."""
