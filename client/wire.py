"""What the client relies on in the messages of the devices.

The header of both formats is that of Lima's data arrays: 64 bytes, little endian, no padding.
"""

from __future__ import annotations

import struct

import numpy as np

DATA_ARRAY = "DATA_ARRAY"
"""Format of frames and vectors."""
STRUCTURED_ARRAY = "STRUCTURED_ARRAY"
"""Format of records."""
NEWS = "LIMA2_NEWS"
"""Format of blocks of values and arrays: head, JSON text, then the arrays."""
NEWS_MAGIC = b"L2NW"
NEWS_HEAD = struct.Struct("<4sI")
"""Magic, length of the JSON text."""

HEADER = struct.Struct("<IHHIIHHHHHHHHIIIIIIQ")
"""Magic, version, size of the header, category, type code, endianness, number of dimensions, six
dimensions, six strides (not used), index of the frame."""
MAGIC = 0x44544159
OLDEST_VERSION = 3
"""The first that tells the index of the frame."""
LITTLE_ENDIAN = 0

CATEGORY_SPECTRUM, CATEGORY_IMAGE = 1, 2
PIXEL_TYPES = tuple(
    np.dtype(name)
    for name in (
        *("uint8", "uint16", "uint32", "uint64"),
        *("int8", "int16", "int32", "int64"),
        *("float32", "float64"),
    )
)
"""The type of the pixels, at the place of its code."""

FRAME_IDX = np.dtype([("recv_idx", "<i4"), ("frame_idx", "<i4")])
"""Record of popFrameIdx."""
STATISTICS = np.dtype(
    [
        ("frame_idx", "<i4"),
        ("recv_idx", "<i4"),
        ("min", "<f4"),
        ("max", "<f4"),
        ("avg", "<f4"),
        ("std", "<f4"),
        ("sum", "<f8"),
    ]
)
"""Record of popRoiStatistics, and of each element in popRoiProfiles."""

ERROR_REASON = "LIMA_Exception"
"""Reason of Tango errors that carry one of ours."""

# Names on the control device
PREPARE_WITH, START, START_RUN = "prepareWith", "startAcq", "startRun"
TRIGGER, STOP = "triggerAcq", "stopAcq"
ABORT, RESET, PROCESS, ERASE = "abortAcq", "resetAcq", "processAcq", "eraseRun"
FRONT_PARAMS = "front_params"
SCHEMA = "schema"
"""Property of the attribute `FRONT_PARAMS` in the database."""
FRONT_STATE, RUN_PHASE, STATUS, FRONT_ERROR = "front_state", "run_phase", "Status", "front_error"
CURRENT_RUN, RUNS = "current_run", "runs"
RECEIVER_STATES, PREFLIGHT, TROUBLES, STUCK = "receiver_states", "preflight", "troubles", "stuck"
NO_ERROR = "No error"

RUN_FAMILY = "limarun"
"""Second part of the names of devices of runs; the last is the uuid."""

# Names on the device of a run; some are names of the control device too
PHASE, VERDICT, PROGRESS, FILES = "phase", "verdict", "progress", "files"
LEDGER_COUNTS = "ledger_counts"
PARAMETERS, SOURCES, STREAMS = "parameters", "sources", "streams"
GET_FRAME, READ_LEDGER = "getFrame", "readLedger"
READ_SOURCE_LEDGER = "readSourceLedger"
NOTES, ADD_NOTE = "notes", "addNote"
READINGS = "readings"
OPEN_CURSOR, READ_CURSOR, CLOSE_CURSOR = "openCursor", "readCursor", "closeCursor"

SETTLED_PHASES = ("ending", "done", "incomplete", "discarded")
"""Phases in which it is known what became of every frame."""
END_PHASES = ("done", "incomplete", "discarded")
DISCARDED = "discarded"
MASTER_SUFFIX = "_master.h5"
"""End of the names of master files."""
STATISTICS_STREAM, PROFILES_STREAM = "roi_statistics", "roi_profiles"
FRAMES_RECEIVED, FRAMES_SAVED = "frames_received", "frames_saved"


def run_device(control: str, uuid: str) -> str:
    """Name of the device of a run, in the domain of its control; as the database has it."""
    return f"{control.partition('#')[0].split('/')[-3]}/{RUN_FAMILY}/{uuid}"
