"""Python client of the suite. Imports nothing of the servers: it is upgraded apart from them.

::

    from client import Lima2

    lima = Lima2("id00/limacontrol/simulator")
    run = lima.acquire(nb_frames=10, exposure_s=0.1)
    for frame in run.frames():
        ...
"""

from client.decode import Decoded, decode_frame, decode_records, decode_vector
from client.errors import (
    BusyError,
    CameraError,
    ClientError,
    DeadlineError,
    DecodeError,
    IncompleteError,
    MemoryLimitError,
    NoDeviceError,
    NotAvailableError,
    OverrunError,
    ParamError,
    PartialFrameError,
    PipelineError,
    PluginError,
    StateError,
    StorageError,
    UnknownParamError,
    UnreachableError,
)
from client.events import Event
from client.files import MasterFile
from client.frames import Frame, Gap, Hits, Validity
from client.ledger import Ledger
from client.params import Params
from client.progress import Progress
from client.results import Results
from client.run import Run
from client.system import Lima2

__all__ = [
    "BusyError",
    "CameraError",
    "ClientError",
    "DeadlineError",
    "DecodeError",
    "Decoded",
    "Event",
    "Frame",
    "Gap",
    "Hits",
    "IncompleteError",
    "Ledger",
    "Lima2",
    "MasterFile",
    "MemoryLimitError",
    "NoDeviceError",
    "NotAvailableError",
    "OverrunError",
    "ParamError",
    "Params",
    "PartialFrameError",
    "PipelineError",
    "PluginError",
    "Progress",
    "Results",
    "Run",
    "StateError",
    "StorageError",
    "UnknownParamError",
    "UnreachableError",
    "Validity",
    "decode_frame",
    "decode_records",
    "decode_vector",
]
