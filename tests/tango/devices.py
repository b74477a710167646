"""Drive the devices of one system directly over Tango, in the order in which the conductor does."""

import json
import threading
import time
import uuid

import jsonschema_default
import numpy as np
import tango
from lima2.common.devencoded import data_array, structured_array

from lima2_core.data.record import FRAME_IDX_RECORD
from processing.kernels.regions import ROI_RECORD

IDLE, PREPARED, RUNNING, STOPPED, FAULT, TERMINATE = range(6)
NO_ERROR = "No error"


PATIENCE_S = 20.0
"""Only what hangs is waited for so long: a busy computer may stand still for seconds."""


def wait_until(condition, what, timeout_s=PATIENCE_S):
    """Wait until ``condition()`` is true, and give its value."""
    until_s = time.monotonic() + timeout_s
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < until_s, f"not within {timeout_s} s: {what}"
        pause.wait(0.005)
    return value


def changed(tree, changes):
    """A copy of ``tree`` with the values of ``changes`` at paths such as ``acq.nb_frames``."""
    copy = json.loads(json.dumps(tree))
    for path, value in changes.items():
        *groups, leaf = path.split(".")
        place = copy
        for group in groups:
            place = place[group]
        assert leaf in place, f"there is no {path}"
        place[leaf] = json.loads(json.dumps(value))
    return copy


def reason(failed):
    """Reason of each level of a Tango error, and the decoded text of the first."""
    levels = [error.reason for error in failed.args]
    text = failed.args[0].desc
    return levels, json.loads(text) if text.startswith("{") else text


class Events:
    """The events of one attribute of one device, with the times at which they came."""

    def __init__(self, device, attribute, kind=tango.EventType.DATA_READY_EVENT):
        self.device = device
        self.seen = []
        self.times_s = []
        self._came = threading.Condition()
        self._id = device.subscribe_event(attribute, kind, self)

    def push_event(self, event):
        with self._came:
            value = event.attr_value.value if getattr(event, "attr_value", None) else None
            self.seen.append(event.errors[0].reason if event.err else value)
            self.times_s.append(time.monotonic())
            self._came.notify_all()

    def wait(self, count=1, timeout_s=PATIENCE_S):
        """Wait for ``count`` events, and give when the last of them came."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.seen) >= count, timeout_s), (
                f"{len(self.seen)} of {count} events within {timeout_s} s"
            )
            return self.times_s[count - 1]

    def wait_last(self, *values, timeout_s=PATIENCE_S):
        """Wait until these came last.

        What the device did before may be told only after the subscription was made.
        """
        with self._came:
            wanted, count = list(values), len(values)
            came = self._came.wait_for(lambda: self.seen[-count:] == wanted, timeout_s)
            assert came, f"not {wanted} within {timeout_s} s, but {self.seen}"

    def close(self):
        identity, self._id = self._id, None
        if identity is not None:
            self.device.unsubscribe_event(identity)


class Run:
    """One prepared acquisition: its processing devices, and what they announce."""

    def __init__(self, acq_id, devices):
        self.acq_id = acq_id
        self.devices = devices
        self.finished = [Events(device, "is_finished") for device in devices]
        self.failed = [Events(device, "last_error") for device in devices]

    def wait_finished(self, timeout_s=PATIENCE_S):
        """Wait until every processing device has said that it is done."""
        for events in self.finished:
            events.wait(1, timeout_s)

    def counters(self):
        return [json.loads(device.progress_counters) for device in self.devices]

    def image(self, receiver, idx, getter="getFrame"):
        """A frame by its index in the acquisition."""
        frame = data_array.decode(getattr(self.devices[receiver], getter)(idx))
        assert frame.idx == idx or idx == -1
        return frame.data

    def pop(self, receiver, command):
        """Records since the last call."""
        dtype = FRAME_IDX_RECORD if command == "popFrameIdx" else ROI_RECORD
        return structured_array.decode(getattr(self.devices[receiver], command)(), dtype)

    def pop_all(self, command):
        return [self.pop(receiver, command) for receiver in range(len(self.devices))]

    def close(self):
        for events in (*self.finished, *self.failed):
            events.close()


class System:
    """A control and its receivers.

    Args:
        answer_s: the limit of commands; that of all clients unless they are given more.
    """

    def __init__(self, tango_host, control, receivers, answer_s=3.0):
        self.tango_host = tango_host
        self._answer_ms = round(1000 * answer_s)
        self.database = tango.Database(*tango_host.split(":"))
        self.control = self.proxy(control)
        self.receivers = [self.proxy(name) for name in receivers]
        self._runs = []

    @property
    def devices(self):
        return [self.control, *self.receivers]

    def proxy(self, name):
        proxy = tango.DeviceProxy(f"tango://{self.tango_host}/{name}")
        proxy.set_timeout_millis(self._answer_ms)
        return proxy

    def processing_name(self, acq_id, receiver):
        return f"{self.control.dev_name().split('/')[0]}/limaprocessing/{acq_id}@{receiver}"

    # Parameters

    def acquisition(self, changes=None):
        """Default acquisition parameters with changes; a small image near the peak."""
        schema = self.schema(self.control.info().dev_class, "acq_params")
        small = {"img.roi": {"topleft": {"x": 1000, "y": 1010}, "dimensions": {"x": 48, "y": 32}}}
        fast = {"acq.expo_time": 1000, "acq.latency_time": 0, "det.nb_prefetch_frames": 4}
        growing = {"det.generator.gauss.grow_factor": 0.1}
        tree = jsonschema_default.create_from(schema)
        return changed(tree, small | fast | growing | (changes or {}))

    def processing(self, class_name="LimaProcessingLegacy", changes=None):
        """Default processing parameters with changes."""
        tree = jsonschema_default.create_from(self.schema(class_name, "proc_params"))
        return changed(tree, changes or {})

    def schema(self, class_name, attribute):
        found = self.database.get_class_attribute_property(class_name, attribute)
        return found[attribute]["schema"][0]

    # Commands

    def write(self, acquisition, processing):
        """Write the parameters of all devices."""
        self.control.acq_params = json.dumps(acquisition)
        for number, receiver in enumerate(self.receivers):
            receiver.acq_params = json.dumps(acquisition)
            own = json.loads(json.dumps(processing))
            if "saving" in own:
                own["saving"]["filename_rank"] = number
            receiver.proc_params = json.dumps(own)

    def prepare(self, acquisition=None, processing=None):
        """Prepare all devices, and listen to the new run."""
        self.write(acquisition or self.acquisition(), processing or self.processing())
        acq_id = str(uuid.uuid1())
        for device in self.devices:
            device.Prepare(acq_id)
        return self.run(acq_id)

    def run(self, acq_id):
        """Listen to a run that is prepared."""
        names = [self.processing_name(acq_id, n) for n in range(len(self.receivers))]
        run = Run(acq_id, [self.proxy(name) for name in names])
        self._runs.append(run)
        return run

    def start(self):
        for device in self.devices:
            device.Start()

    def acquire(self, acquisition=None, processing=None, timeout_s=PATIENCE_S):
        """A whole acquisition, to its end."""
        run = self.prepare(acquisition, processing)
        self.start()
        self.finish(run, timeout_s)
        return run

    def finish(self, run, timeout_s=PATIENCE_S):
        """Wait for the end of everything and close the control."""
        run.wait_finished(timeout_s)
        self.wait_receivers(IDLE, FAULT, timeout_s=timeout_s)
        self.control.Close()

    def stop(self):
        for device in self.devices:
            device.Stop()

    def reset(self):
        for device in self.devices:
            device.Reset()

    def wait_receivers(self, *states, timeout_s=PATIENCE_S):
        """Wait until each receiver is in one of ``states``."""
        wait_until(
            lambda: all(receiver.acq_state in states for receiver in self.receivers),
            f"all receivers in {states}",
            timeout_s,
        )

    def states(self):
        return [int(device.acq_state) for device in self.devices]

    def xferred(self):
        return [receiver.nb_frames_xferred for receiver in self.receivers]

    def clear_listeners(self):
        """Listen to no run any more."""
        for run in self._runs:
            run.close()
        self._runs.clear()

    def clear(self):
        """Bring all devices to rest, and forget all runs."""
        self.clear_listeners()
        self.stop()
        self.reset()
        for receiver in self.receivers:
            for acq_id in receiver.pipelines or ():
                try:
                    receiver.erasePipeline(acq_id)
                except tango.DevFailed as failed:
                    # The front forgets its runs at once, and lets receivers know soon.
                    if "there is no run" not in failed.args[0].desc:
                        raise


def rect_statistics(image, rect):
    """min, max, avg, std and sum of a rectangle of the parameters, by numpy."""
    x, y = rect["topleft"]["x"], rect["topleft"]["y"]
    width, height = rect["dimensions"]["x"], rect["dimensions"]["y"]
    return pixel_statistics(image[..., y : y + height, x : x + width])


def arc_statistics(image, arc):
    """The same of an arc of the parameters."""
    rows, cols = np.indices(image.shape[-2:])
    down, across = rows - arc["center"]["y"], cols - arc["center"]["x"]
    radius = np.hypot(down, across)
    beyond = (np.degrees(np.arctan2(down, across)) - arc["a1"]) % 360
    inside = (radius >= arc["r1"]) & (radius < arc["r2"]) & (beyond <= arc["a2"] - arc["a1"])
    return pixel_statistics(image[..., inside])


def pixel_statistics(pixels):
    values = pixels.astype(np.float64)
    return [values.min(), values.max(), values.mean(), values.std(), values.sum()]


def record_values(records):
    """The statistics of records as rows of five numbers."""
    return [
        [float(record[name]) for name in ("min", "max", "avg", "std", "sum")] for record in records
    ]
