"""A real system for faults: database, Redis, servers with a front, and file systems that fail."""

import contextlib
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  the filters of the frames
import numpy as np
import pytest
from blissdata import DataStore, ScanState

from lima2_core.data.frame import Validity
from lima2_core.errors import NotAvailableError
from tango_servers.deployment import DeviceEntry, load_deployment
from tango_servers.local.database import EmbeddedDatabase
from tango_servers.local.demo_front import prepare_patiently
from tango_servers.local.processes import find_program
from tango_servers.local.redis import EmbeddedRedis
from tango_servers.local.servers import ServerGroup
from tests.system import fault_camera, gated_pipeline
from tests.tango.devices import wait_until
from tests.tango.front_rig import RESTING, FrontRig

LIMIT_S = 5.0
"""Within this time after a fault the system is at rest and tells the cause."""
PERIOD = 501
"""Different images; more than any run here has, so that each frame tells its index."""
LARGE = [768, 768, 512, 512]
DATA = "entry_0000/measurement/data"
DETECTOR = "entry_0000/instrument/detector"
SESSION = "id00"
ROWS_PER_FILE = 10
SEGMENT_FRAMES = 20
GUARD_S = 20.0
"""For what has no limit of its own; it costs nothing where all is well."""
PLUGINS = f"""
[lima2.cameras]
Faulty = {fault_camera.__name__}:PLUGIN
[lima2.pipelines]
{gated_pipeline.CLASS_NAME} = {gated_pipeline.__name__}:PLUGIN
"""


def peak(idx):
    """Brightest pixel of frame ``idx``; of floats to the nearest."""
    return 100 * (1 + 0.1 * (idx % PERIOD))


class SystemLab:
    """All servers of ``round_robin_2`` in processes of their own, and a Redis for their runs.

    Args:
        camera: name of the plugin in place of the simulator.
    """

    def __init__(self, folder, *, camera="Simulator"):
        self.folder = folder
        self._stack = contextlib.ExitStack()
        self.redis = EmbeddedRedis(folder / "redis")
        self._camera = camera
        self._runs = 0

    def __enter__(self):
        with self._stack:
            self._stack.enter_context(self.redis)
            DataStore(self.redis.url, init_db=True)
            self.deployment = self._deployment()
            database = self._stack.enter_context(EmbeddedDatabase(self.folder, self.deployment))
            self.servers = self._stack.enter_context(
                ServerGroup(
                    self.folder / "servers",
                    database.tango_host,
                    self.deployment,
                    environ=install_plugins(self.folder / "plugins"),
                )
            )
            self.front = FrontRig(database.tango_host, self.deployment.control.name)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *error):
        self._stack.close()

    def _deployment(self):
        outputs = {
            "redis_url": self.redis.url,
            "scan_session": SESSION,
            "master_segment_frames": str(SEGMENT_FRAMES),
        }

        def changed(device):
            more = {name: (value,) for name, value in outputs.items()} if device.is_control else {}
            class_name = device.class_name.replace("Simulator", self._camera)
            return DeviceEntry(device.name, class_name, {**device.properties, **more})

        plain = load_deployment("round_robin_2")
        servers = tuple(
            replace(server, devices=tuple(changed(device) for device in server.devices))
            for server in plain.servers
        )
        return replace(plain, servers=servers)

    # Runs

    @property
    def control(self):
        return self.front.control

    def order(
        self,
        folder,
        nb_frames,
        *,
        expo_s=0.005,
        large=False,
        burst=None,
        held_from=None,
        **changes,
    ):
        """Parameters of a run that is saved; its images tell their index.

        Args:
            folder: for its files.
            nb_frames: 0 for a run without end.
            expo_s: of each frame.
            large: whether the frames take longer to be packed than to be taken.
            burst: frames of one trigger; without, all come by themselves. The run cannot end
                before all triggers are given.
            held_from: large frames from this one on wait, taken but not processed, until
                `open_gate`; so the run cannot end before.
            changes: values by the path of the parameter.

        Returns:
            The prefix of its files.
        """
        self._runs += 1
        prefix = f"run{self._runs}"
        self.front.defaults(
            nb_frames,
            saving_enabled=True,
            saving_directory=str(folder),
            saving_prefix=prefix,
            saving_frame_per_file=ROWS_PER_FILE,
        )
        images = {
            "acquisition.det.generator.pixel_type": "gray32f" if large else "gray16",
            "acquisition.det.nb_prefetch_frames": nb_frames if large else PERIOD,
        }
        if burst is not None:
            images["acquisition.acq.trigger_mode"] = "software"
            images["acquisition.acq.nb_frames_per_trigger"] = burst
        if held_from is not None:
            gate = self._gate(prefix)
            gate.touch()
            images["processing.class_name"] = gated_pipeline.CLASS_NAME
            images[gated_pipeline.GROUP] = {"file": str(gate), "first_frame": held_from}
        self.front.change({**images, **changes})
        self.front.set(acq_expo_time=expo_s)
        if large:  # these take long to be packed
            self.front.set(image_roi=LARGE, saving_compression="zip")
        return prefix

    def open_gate(self, prefix):
        """Let frames pass that were held; harmless if there are none."""
        self._gate(prefix).unlink(missing_ok=True)

    def _gate(self, prefix):
        return self.folder / f"{prefix}.gate"

    def prepare(self):
        """Prepare what was ordered, as the demonstration and the client do; its run."""
        prepare_patiently(self.control, self.front.proxy)
        return self.front.run(self.control.current_run)

    def begin(self):
        """Start what was ordered; its run."""
        run = self.prepare()
        self.control.startAcq()
        return run

    def quick(self, folder, nb_frames=10):
        """A whole run of small frames, which must be a success."""
        prefix = self.order(folder, nb_frames, expo_s=0.001)
        run = self.begin()
        run.wait_ended(GUARD_S)
        assert run.phase == "done", self.control.status()
        assert self.front.state == "idle"
        assert_books(run, nb_frames)
        assert_master(folder, prefix, run)
        return run

    def wait_rest(self, cause):
        """Wait until the system is at rest and its status tells the cause."""

        def told():
            return self.front.state in RESTING and cause in self.control.status()

        try:
            wait_until(told, cause, LIMIT_S)
        except AssertionError as error:
            found = f"{self.front.state}; {self.control.status()}"
            raise AssertionError(f"{error}; instead: {found}") from error

    def wait_saving(self):
        """Wait until frames come, and some of each receiver outlive whatever happens."""
        wait_until(lambda: self.control.frames_received > 50, "some frames", GUARD_S)
        safe = 4 * ROWS_PER_FILE  # the first files of both cannot have so many
        wait_until(lambda: self.control.frames_saved >= safe, "some frames in files", GUARD_S)

    def wait_draining(self, run, saved=4):
        """Wait until all frames are taken, and some are saved; the last must be held."""
        run.wait("draining", timeout_s=GUARD_S)
        wait_until(lambda: self.control.frames_saved >= saved, "some frames in files", GUARD_S)
        assert run.phase == "draining"

    def instance(self, receiver):
        return self.deployment.servers[1 + receiver].instance

    def signal(self, receiver, number):
        os.kill(self.servers.pid(self.instance(receiver)), number)

    def clear(self):
        """Bring all to rest, whatever a test has left."""
        for gate in self.folder.glob("*.gate"):
            gate.unlink()
        for receiver in range(2):
            if not self.servers.running(self.instance(receiver)):
                self.servers.restart(self.instance(receiver))
            self.signal(receiver, signal.SIGCONT)
        if self.redis.pid is None:
            self.redis.start()
        self.front.clear()

    # blissdata

    def scan(self, acq_id):
        """The scan of a run, once it is closed."""

        def closed():
            store = DataStore(self.redis.url)
            _, keys = store.search_existing_scans(session=SESSION)
            for scan in map(store.load_scan, keys):
                if scan.info["acq_id"] == acq_id and scan.state is ScanState.CLOSED:
                    return store.load_scan(scan.key)
            return None

        return wait_until(closed, f"the scan of {acq_id}", GUARD_S)


def install_plugins(folder):
    """Install the plugins of these tests for servers only; the variables that they need."""
    info = folder / "lima2_fault_plugins-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lima2-fault-plugins\nVersion: 1\n")
    (info / "entry_points.txt").write_text(PLUGINS)
    return {"PYTHONPATH": f"{folder}:{Path(__file__).parents[2]}"}


def id_of(run):
    """The id of a run of the system, by the name of its device."""
    return run.device.dev_name().split("/")[-1]


def assert_books(run, nb_frames):
    """The ledger adds up, in its sums and frame by frame."""
    counts = run.counts()
    assert counts.pop("expected") == nb_frames
    assert counts.pop("open") == 0
    assert sum(counts.values()) == nb_frames, counts
    codes = run.ledger()[1]["code"].tolist()
    assert {Validity(code).name.lower(): codes.count(code) for code in set(codes)} == counts


def assert_master(folder, prefix, run, *, rows_tell=True, factor=1):
    """Every frame that the ledger calls valid, and every one that was flushed, is in its place.

    Files are opened without a lock, as those of a stopped process stay locked.

    Args:
        folder: of the files.
        prefix: of the files.
        run: by its device.
        rows_tell: whether the row of a frame in the files of its receiver tells its index.
        factor: how much brighter than usual its images are.

    Returns:
        The frames that are there.
    """
    codes = run.ledger()[1]["code"]
    valid = set(np.flatnonzero(codes == Validity.VALID).tolist())
    path = Path(folder) / f"{prefix}_master.h5"
    with h5py.File(path, locking=False) as file:
        shown = file[f"{DETECTOR}/validity"][:] if valid else np.zeros(0)
        frames = file[DATA][:] if valid else np.zeros(0)
    assert set(np.flatnonzero(shown == Validity.VALID).tolist()) == valid
    if rows_tell:
        assert sorted(flushed(folder, prefix) - valid) == []
    found = {idx: float(frame.max()) for idx, frame in enumerate(frames)}
    wrong = {
        idx: value
        for idx, value in found.items()
        if abs(value - (factor * peak(idx) if idx in valid else 0)) > 1
    }
    assert not wrong
    return sorted(valid)


def flushed(folder, prefix):
    """Frames in the files of the receivers, as h5py finds them; round robin."""
    found = set()
    for path in Path(folder).glob(f"{prefix}_[01]_*.h5"):
        receiver, number = (int(part) for part in path.stem.split("_")[-2:])
        # One that was killed before its first flush is no file.
        with contextlib.suppress(OSError), h5py.File(path, locking=False) as file:
            data, good = file[DATA], file[f"{DETECTOR}/validity"][:] == Validity.VALID
            rows = (
                data.id.get_chunk_info(n).chunk_offset[0] for n in range(data.id.get_num_chunks())
            )
            found |= {
                2 * (ROWS_PER_FILE * number + row) + receiver
                for row in rows
                if row < len(good) and good[row]
            }
    return found


def _system(*command):
    """Run a program that only an administrator may use; skip the test where it fails."""
    try:
        program = find_program(command[0])
    except NotAvailableError as error:
        pytest.skip(str(error))
    done = subprocess.run((program, *command[1:]), capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{' '.join(command)} fails: {done.stderr.strip()}")


@contextlib.contextmanager
def small_disk(folder, mebibytes=96):
    """A file system that is soon full."""
    folder.mkdir()
    _system("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def freezing_disk(folder, mebibytes=128):
    """A file system that can be made to keep writers waiting; freeze it by `freeze`."""
    image = folder.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(mebibytes * 2**20)
    folder.mkdir()
    _system("mkfs.ext4", "-q", str(image))
    _system("mount", "-o", "loop", str(image), str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        image.unlink()


def freeze(folder):
    """Let nobody write until `thaw`."""
    _system("fsfreeze", "--freeze", str(folder))


def thaw(folder):
    """Let all write again; harmless if they may."""
    command = (find_program("fsfreeze"), "--unfreeze", str(folder))
    subprocess.run(command, capture_output=True, check=False)


def fill(folder):
    """Leave no room on a file system; the file that takes it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 4096, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    return filler
