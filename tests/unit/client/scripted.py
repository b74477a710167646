"""A control device and its run as a script: what they answer is written down by the test."""

import itertools
import json
from collections import defaultdict

import numpy as np

from client import wire
from client.errors import NotAvailableError, UnreachableError
from client.run import Run
from lima2_core.data.encoding import DATA_ARRAY, encode_image
from lima2_core.data.news import NEWS, pack

ROI = np.dtype([("frame_idx", "<i4"), ("sum", "<f8")])

SCHEMA = {
    "properties": {
        "acquisition": {
            "description": "What the detector shall do.",
            "properties": {
                "acq": {
                    "description": "How many, how long.",
                    "properties": {
                        "nb_frames": {
                            "description": "Frames of the\nwhole system.",
                            "type": "integer",
                            "minimum": 0,
                            "unit": "frames",
                            "default": 1,
                        },
                        "expo_time": {
                            "type": "integer",
                            "exclusiveMinimum": 0,
                            "unit": "us",
                            "default": 100000,
                        },
                        "latency_time": {"type": "number", "unit": "ms", "default": 0.5},
                        "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
                        "limit": {
                            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}],
                            "default": None,
                        },
                        "update": {"type": "boolean", "default": False},
                    },
                }
            },
        },
        "processing": {
            "anyOf": [
                {
                    "properties": {
                        "class_name": {"type": "string", "default": "Saving"},
                        "saving": {
                            "properties": {
                                "enabled": {"type": "boolean", "default": False},
                                "base_path": {"type": "string", "default": "/tmp"},
                                "filename_prefix": {"type": "string", "default": "lima2"},
                            }
                        },
                        "rois": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "properties": {"x": {"type": "integer", "minimum": 0}},
                            },
                            "default": [],
                        },
                    }
                },
                {
                    "properties": {
                        "class_name": {"type": "string", "default": "Files"},
                        "files": {
                            "properties": {
                                "base_path": {"type": "string", "default": "/"},
                                "filename_prefix": {"type": "string", "default": "x"},
                            }
                        },
                    }
                },
                {"properties": {"class_name": {"type": "string", "default": "Blind"}}},
            ]
        },
        "metadata": {"type": "object", "default": {}},
    }
}


class Scripted:
    """A device whose attributes are in a dict; a list of answers gives one after the other."""

    def __init__(self, name="id00/limacontrol/x"):
        self.name = name
        self.values = {wire.STATUS: "All is well."}
        self.commands = {}
        self.calls = []
        self.written = {}
        self.peers = {}
        self.followers = defaultdict(list)
        self.follows = True
        self.on_follow = None

    def read(self, attribute):
        return self._answer(self.values[attribute])

    def write(self, attribute, value):
        self.written[attribute] = value

    def call(self, command, argument=None, timeout_s=3.0):
        self.calls.append((command, argument))
        answer = self.commands.get(command)
        return answer(argument) if callable(answer) else self._answer(answer)

    def attribute_property(self, attribute, name):
        return json.dumps(SCHEMA)

    def peer(self, name):
        return self.peers[name]

    def follow(self, attribute, put):
        if not self.follows:
            raise UnreachableError("no events")
        self.followers[attribute].append(put)
        if self.on_follow is not None:
            self.on_follow(attribute, put)
        return lambda: self.followers[attribute].remove(put)

    def _answer(self, answer):
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class ScriptedRun(Scripted):
    """The device of a run of frames of one pixel that shows their index.

    Args:
        steps: what is known, one after the other: phase, and the codes of the frames so far.
    """

    def __init__(self, *steps, uuid="u-1"):
        super().__init__(f"id00/limarun/{uuid}")
        self.steps = list(steps)
        self.forgotten = ()
        self.values |= {
            wire.VERDICT: "as it is",
            wire.LEDGER_COUNTS: json.dumps({"expected": 10, "open": 0, "valid": 10}),
            wire.FILES: ("/nowhere/p_master.h5", "/nowhere/p_master_00000.h5"),
            wire.SOURCES: json.dumps({"frame": {"accessible": 0}}),
            wire.PARAMETERS: json.dumps({"processing": {}}),
            wire.PROGRESS: json.dumps({"expected": 10, "received": 4, "percent": 40.0}),
            wire.STREAMS: json.dumps(
                {
                    name: {"dtype": np.lib.format.dtype_to_descr(ROI), "rows_per_frame": 2}
                    for name in (wire.STATISTICS_STREAM, "other")
                }
            ),
        }
        self.commands |= {wire.GET_FRAME: self._frame, wire.READ_LEDGER: self._ledger}
        self._cursors = itertools.count(1)
        self.run = Run(uuid, self, Scripted())

    def read(self, attribute):
        if attribute == wire.PHASE:
            return self._answer(self.steps[0][0])
        return super().read(attribute)

    def _frame(self, argument):
        idx = json.loads(argument)["idx"]
        if idx in self.forgotten:
            raise NotAvailableError(f"frame {idx} is not available any more")
        return DATA_ARRAY, encode_image(np.full((1, 1, 1), idx, np.uint16), idx)

    def _ledger(self, asked):
        # The phase was asked before: both belong to the same step.
        codes = np.array(self.steps[0][1], np.uint8)
        if len(self.steps) > 1:
            self.steps.pop(0)
        first, last = asked[0], len(codes) if asked[1] < 0 else min(asked[1], len(codes))
        return ledger_of(codes[first : max(first, last)], first, len(codes))


def ledger_of(codes, first=0, end=0):
    """The books on consecutive frames."""
    n = len(codes)
    arrays = {
        "code": np.array(codes, np.uint8),
        "receiver": np.zeros(n, np.int16),
        "timestamp_s": np.arange(first, first + n, dtype=np.float64),
        "row": np.zeros(n, np.int64),
    }
    return NEWS, pack({"first": first, "parts": 1, "end": end}, arrays)


def records(first, last):
    """Records of two regions of frames; their sum is the index."""
    found = np.zeros(2 * (last - first), ROI)
    found["frame_idx"] = np.repeat(np.arange(first, last), 2)
    found["sum"] = found["frame_idx"]
    return found


def batch(first, last, finished=False):
    """What a cursor gives."""
    tree = {"stream": wire.STATISTICS_STREAM, "first": 2 * first, "finished": finished}
    return NEWS, pack(tree, {"records": records(first, last)})
