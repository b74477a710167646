"""One connection to a Redis of blissdata, and the scans written through it.

blissdata's own writer queues without limit and hangs when the connection is lost, so scans are
written here, in its format, by calls that end within `ANSWER_S`. After any error a connection is
thrown away. What is private in blissdata and used here: the models of scans and streams that its
store makes, and the names of its history and of its function that seals streams.

A reader of blissdata reads the tree of a scan first and its state second. So a scan appears with
all its streams at once, and its last tree some time before its last state.

Threads: one at a time.
"""

# ruff: noqa: SLF001  blissdata has no public way to write a stream without its own threads
from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import redis
from blissdata import DataStore, ScanState
from blissdata.lima.client import prepare_next_lima_acquisition
from blissdata.redis_engine.scan import scan_creation_stream
from blissdata.streams.default import Stream
from blissdata.streams.lima.stream import LimaStream

from lima2_core.errors import NotAvailableError
from processing.outputs.blissdata_feed import ImageStatus, Piece
from processing.outputs.blissdata_info import beginning
from processing.outputs.blissdata_plan import Images, ScanPlan
from processing.outputs.blissdata_writer_id import is_gone

ANSWER_S = 2.0
"""How long any answer of Redis may take."""

NO_SERVER = "lima2/frames_in_files_only"
"""Stands for the device of streams that have none; the key of that name never fits."""

_errors: Any = redis.exceptions  # its types come from elsewhere, and are older
CONNECTION_ERRORS = (
    _errors.ConnectionError,
    _errors.TimeoutError,
    _errors.OutOfMemoryError,
    _errors.ReadOnlyError,
    OSError,
)
"""Redis is away, or takes nothing from anybody; what else is raised here concerns one scan."""
REFUSALS = (_errors.RedisError, NotAvailableError, RuntimeError, ValueError)

# Without types in blissdata.
_data_store: Any = DataStore
_prepare_next: Any = prepare_next_lima_acquisition

_NUMBERS = "lima2:scan_numbers"
_HISTORY_LENGTH = 2048  # as blissdata keeps it
_HISTORY_SEARCHED = 200
_ALWAYS_ASK = 2**31 - 1
_NEVER_FITS = -1
_ABANDONED = "the server that published it ended before the run did"


class GoneError(_errors.ConnectionError):  # type: ignore[misc]
    """The Redis that answers is not the one that was written to, or lost what it had."""


class BlissScan:
    """A scan open for writing."""

    def __init__(
        self,
        store: BlissStore,
        model: Any,
        plan: ScanPlan,
        definitions: Mapping[str, Any],
        expiry_s: int,
    ) -> None:
        self.key: str = model.key()
        self.lengths: dict[str, int] = dict.fromkeys(model.data_streams, 0)
        """Entries in Redis, by stream."""
        self.sealed = False
        """Whether no more entries can be added."""
        self._redis = store.redis
        self._info = model.info
        self._state_key = model.state_stream.key()
        self._expiry_s = expiry_s
        self._keys = {name: one.key() for name, one in model.data_streams.items()}
        self._encoders = {name: one.encoder for name, one in definitions.items()}
        self._servers = [image.server or NO_SERVER for image in plan.images]
        self._statuses: dict[str, ImageStatus] = {}

    def count(self) -> None:
        """See how many entries the streams have."""
        pipe = self._redis.pipeline(transaction=False)
        for key in self._keys.values():
            pipe.xrevrange(key, count=1)
        for name, found in zip(self._keys, pipe.execute(), strict=True):
            self.lengths[name] = 0
            if found:
                entry, fields = found[0]
                if b"id" in fields:  # the seal, which has the length
                    self.sealed = True
                    self.lengths[name] = int(fields[b"id"])
                else:
                    self.lengths[name] = int(entry.split(b"-")[0]) + int(fields.get(b"len", 1))

    def append(self, pieces: Sequence[Piece], statuses: Mapping[str, ImageStatus]) -> None:
        """Send entries, all or none; what is there already is left out.

        Raises:
            GoneError: the scan is not there any more.
        """
        if self.sealed:
            return
        pipe = self._redis.pipeline(transaction=True)
        lengths = dict(self.lengths)
        for piece in pieces:
            for column in piece.group.columns:
                skip = lengths[column.name] - piece.first
                if skip >= piece.count:
                    continue
                if piece.records is None:
                    values = column.fills(piece.count - skip)
                else:
                    values = column.values(piece.records[skip:])
                self._add(pipe, column.name, values, lengths[column.name])
                lengths[column.name] = piece.end
        for name, status in statuses.items():
            if status != self._statuses.get(name) and status.last_index >= 0:
                self._add(pipe, name, status.event(), lengths[name])
                lengths[name] += 1
        if len(pipe) and None in pipe.execute():
            raise GoneError("the scan is not in Redis any more")
        self.lengths = lengths
        self._statuses.update(statuses)

    def _add(self, pipe: Any, name: str, value: Any, index: int) -> None:
        key = self._keys[name]
        fields = self._encoders[name].encode(value).todict()
        pipe.xadd(key, fields, id=f"{index}-1", nomkstream=index > 0)
        if index == 0:  # the key did not exist before
            pipe.expire(key, self._expiry_s)

    def refresh_expiry(self) -> None:
        """Let all keys expire from now on."""
        pipe = self._redis.pipeline(transaction=False)
        for key in (self.key, self._state_key, *self._keys.values(), *self._servers):
            pipe.expire(key, self._expiry_s)
        pipe.execute()

    def end(self, ending: Mapping[str, Any]) -> None:
        """Seal all streams, and say how it ended."""
        pipe = self._redis.pipeline(transaction=True)
        if not self.sealed:
            for key in self._keys.values():
                pipe.fcall("seal_stream", 1, key)
                pipe.expire(key, self._expiry_s)
        self._info = {**self._info, **ending}
        pipe.execute_command("JSON.SET", self.key, "$.info", json.dumps(self._info))
        for answer in pipe.execute(raise_on_error=False):
            if isinstance(answer, Exception) and "already sealed" not in str(answer):
                raise answer
        self.sealed = True

    def close(self) -> None:
        """Let readers know that nothing will be added or changed."""
        pipe = self._redis.pipeline(transaction=True)
        for state in (ScanState.STOPPED, ScanState.CLOSED):
            pipe.xadd(self._state_key, {"state": state.value})
        pipe.execute()
        self.refresh_expiry()


class BlissStore:
    """A connection to a Redis of blissdata; an empty one is initialised.

    Raises:
        NotAvailableError: this Redis is in use for something else.
    """

    def __init__(self, url: str) -> None:
        sign = "&" if "?" in url else "?"
        # blissdata reads answers as the second version of the protocol has them.
        url = f"{url}{sign}socket_timeout={ANSWER_S}&socket_connect_timeout={ANSWER_S}&protocol=2"
        client: Any = redis.Redis.from_url(url)
        try:
            client.ping()
            empty = client.dbsize() == 0
        finally:
            client.close()
        try:
            self._store: Any = _data_store(url, init_db=empty)
        except RuntimeError as error:
            raise NotAvailableError(
                f"This Redis is not empty and not blissdata's ({error}); name another in redis_url"
            ) from error
        self.redis: Any = self._store._redis
        self._client_id = self.redis.client_id()

    def disconnect(self) -> None:
        """Give back the connections."""
        self.redis.connection_pool.disconnect()

    def check(self) -> None:
        """Make sure that it answers, and is the same as before.

        Raises:
            GoneError: the connection was lost in between and made again, unseen.
        """
        if self.redis.client_id() != self._client_id:
            raise GoneError("the connection was lost")

    def create(self, plan: ScanPlan, started_wall_s: float, expiry_s: int) -> BlissScan:
        """Make the scan of a run that has been started, with all its streams."""
        number = self.redis.hincrby(_NUMBERS, plan.identity["session"], 1)
        offsets = {image.name: self._offset_of(image) for image in plan.images}
        id_class = self._store._scan_model.id.field.annotation
        stream_class = self._store._stream_model
        definitions = _definitions(plan, offsets)
        model = self._store._scan_model(
            id=id_class(**plan.identity, number=number),
            info=beginning(plan, number, started_wall_s),
            state_stream=stream_class(),
            data_streams={
                name: stream_class(encoding=one.encoder.info(), info=one.info)
                for name, one in definitions.items()
            },
        )
        state_key = model.state_stream.key()
        pipe = self.redis.pipeline(transaction=True)
        model.save(pipeline=pipe)
        for state in (ScanState.CREATED, ScanState.PREPARED, ScanState.STARTED):
            pipe.xadd(state_key, {"state": state.value})
        pipe.xadd(scan_creation_stream, {"key": model.key()}, maxlen=_HISTORY_LENGTH)
        for key in (model.key(), state_key):
            pipe.expire(key, expiry_s)
        pipe.execute()
        return BlissScan(self, model, plan, definitions, expiry_s)

    def resume(self, plan: ScanPlan, key: str, expiry_s: int) -> BlissScan | None:
        """Open a scan that was begun earlier; None if it is gone."""
        if not self.redis.exists(key):
            return None
        model = self._store._scan_model.get(key.removeprefix(self._store._scan_model.make_key("")))
        scan = BlissScan(self, model, plan, _definitions(plan, {}), expiry_s)
        scan.count()
        return scan

    def find(self, acq_id: str) -> str:
        """Key of the scan of a run that was made a moment ago; empty if there is none."""
        for _, fields in self.redis.xrevrange(scan_creation_stream, count=_HISTORY_SEARCHED):
            key = fields[b"key"].decode()
            if self.redis.json().get(key, "$.info.acq_id") == [acq_id]:
                return str(key)
        return ""

    def close_abandoned(self) -> list[str]:
        """End the scans whose publisher on this computer has ended before them; their keys."""
        found = [
            fields[b"key"].decode()
            for _, fields in self.redis.xrevrange(scan_creation_stream, count=_HISTORY_SEARCHED)
        ]
        pipe = self.redis.pipeline(transaction=False)
        for key in found:
            pipe.json().get(key, "$.info.publisher")
        closed = []
        for key, told in zip(found, pipe.execute(), strict=True):
            if told and is_gone(told[0]) and self._close_abandoned(key):
                closed.append(key)
        return closed

    def _close_abandoned(self, key: str) -> bool:
        """End one of them, unless it was closed."""
        model = self._store._scan_model.get(key.removeprefix(self._store._scan_model.make_key("")))
        states = self.redis.xrevrange(model.state_stream.key(), count=1)
        if not states or int(states[0][1][b"state"]) >= ScanState.STOPPED.value:
            return False
        pipe = self.redis.pipeline(transaction=True)
        for stream in model.data_streams.values():
            pipe.fcall("seal_stream", 1, stream.key())
        info = {**model.info, "end_reason": "FAILURE", "verdict": _ABANDONED}
        pipe.execute_command("JSON.SET", key, "$.info", json.dumps(info))
        for state in (ScanState.STOPPED, ScanState.CLOSED):
            pipe.xadd(model.state_stream.key(), {"state": state.value})
        pipe.execute(raise_on_error=False)  # streams may be sealed already
        return True

    def end_live_frames(self, servers: Iterable[str]) -> None:
        """Let readers know that these devices do not serve their frames any more."""
        for server in servers:
            _prepare_next(self._store, server)

    def _offset_of(self, image: Images) -> int:
        """What blissdata compares with the key of the device to see whether it serves this run."""
        if image.server:
            return int(_prepare_next(self._store, image.server))
        self.redis.setnx(NO_SERVER, 0)
        return _NEVER_FITS


def _definitions(plan: ScanPlan, offsets: Mapping[str, int]) -> dict[str, Any]:
    """The streams of a scan, in blissdata's terms."""
    streams: dict[str, Any] = {}
    for image in plan.images:
        streams[image.name] = LimaStream.make_definition(
            image.name,
            image.dtype,
            image.shape,
            server_url=image.server or NO_SERVER,
            buffer_max_number=_ALWAYS_ASK,
            frames_per_acquisition=image.nb_frames,
            acquisition_offset=offsets.get(image.name, _NEVER_FITS),
            saving=_saving(image),
        )
    for group in plan.groups:
        for column in group.columns:
            info = {"unit": column.unit} if column.unit else {}
            streams[column.name] = Stream.make_definition(
                column.name, column.dtype, column.shape, info
            )
    return streams


def _saving(image: Images) -> dict[str, Any]:
    """Where blissdata finds the frames in files; all of it or nothing."""
    if image.segments is None:
        return {}
    return {
        "file_path": image.segments.pattern,
        "data_path": image.segments.dataset,
        "file_format": "hdf5",
        "file_offset": 0,
        "frames_per_file": image.segments.frames,
    }
