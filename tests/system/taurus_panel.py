"""A panel as users of Taurus make one: a form, a command button and an image, on the front.

``python taurus_panel.py CONTROL SCREENSHOT``: writes 30 as the number of frames, presses "acquire",
waits for the end, takes a screenshot, and says as JSON what was seen.
"""

import json
import sys
import time

import numpy as np
import pyqtgraph
import taurus
from taurus.external.qt import Qt
from taurus.qt.qtgui.application import TaurusApplication
from taurus.qt.qtgui.button import TaurusCommandButton
from taurus.qt.qtgui.panel import TaurusForm
from taurus_pyqtgraph import TaurusImageItem

TRIES, RETRY_S = 5, 2.0
FRAMES = 30
LIMIT_S = 30
IMAGES = 3
"""Different ones that must be seen; of 30 within 3 s, at most ten per second."""
ATTRIBUTES = (
    "state",
    "front_state",
    "run_phase",
    "acq_nb_frames",
    "acq_expo_time",
    "acq_trigger_mode",
    "saving_enabled",
    "saving_directory",
    "acq_progress",
    "frames_processed",
    "frame_rate",
    "verdict",
)
END = {
    "state": "ON",
    "front_state": "idle",
    "acq_progress": "100",
    "frames_processed": str(FRAMES),
    "verdict": f"all {FRAMES} frames are valid",
}
"""What is shown in the end; attributes change one after the other."""


class Image(TaurusImageItem):
    """Counts the different images that it showed."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def handleEvent(self, source, kind, value):  # noqa: N802  Taurus's name
        super().handleEvent(source, kind, value)
        if self.image is not None and np.size(self.image) > 1:
            self.seen.add(float(np.max(self.image)))


class Panel(Qt.QWidget):
    """Form and button on the left, image on the right."""

    def __init__(self, control):
        super().__init__()
        self.setWindowTitle(control)
        self.form = TaurusForm(self)
        self.form.setWithButtons(False)
        self.form.setModel([f"{control}/{name}" for name in ATTRIBUTES])
        self.button = TaurusCommandButton(command="acquire")
        self.button.setModel(control)
        self.button.setTimeout(10)
        view = pyqtgraph.PlotWidget()
        view.setAspectLocked(True)
        self.image = Image()
        self.image.setModel(f"{control}/last_image")
        view.addItem(self.image)
        left = Qt.QVBoxLayout()
        left.addWidget(self.form)
        left.addWidget(self.button)
        both = Qt.QHBoxLayout(self)
        both.addLayout(left)
        both.addWidget(view, 1)
        self.resize(1200, 600)

    def shown(self, name):
        """What the form shows for an attribute."""
        return self._item(name).readWidget().getDisplayValue()

    def value(self, name):
        """What Taurus has read of an attribute, None before it has."""
        value = self._item(name).getModelValueObj()
        return value.rvalue if value is not None else None

    def to_write(self, name):
        """What the form offers to be written."""
        return self._item(name).getModelValueObj().wvalue

    def write(self, name, value):
        """Type a value and press enter, if the field takes it by now; whether it does."""
        widget = self._item(name).writeWidget(followCompact=True)
        widget.setText(value)
        ready = widget.getValue() is not None
        if ready:
            widget.writeValue(forceApply=True)
        return ready

    def _item(self, name):
        return self.form.getItemByIndex(ATTRIBUTES.index(name))


def press_ok():
    """Close the message that Taurus shows where it could not write yet: it waits for that."""
    message = Qt.QApplication.activeModalWidget()
    if message is not None:
        message.close()


def wait(app, condition, limit_s=LIMIT_S):
    """Let Qt work until ``condition()`` is true; whether it became true."""
    until_s = time.monotonic() + limit_s
    while not (done := condition()) and time.monotonic() < until_s:
        app.processEvents(Qt.QEventLoop.AllEvents, 20)
    return done


def main(control, screenshot):
    taurus.setLogLevel(taurus.Error)
    app = TaurusApplication(cmd_line_parser=None, app_name="panel")
    panel = Panel(control)
    panel.show()
    timer = Qt.QTimer()
    timer.timeout.connect(press_ok)
    timer.start(200)
    filled = wait(app, lambda: all(panel.value(name) is not None for name in ATTRIBUTES))
    before = panel.shown("run_phase")
    for _ in range(TRIES):  # Taurus may still be learning what can be written
        wait(app, lambda: panel.write("acq_nb_frames", str(FRAMES)), RETRY_S)
        if wait(app, lambda: panel.shown("acq_nb_frames").startswith(str(FRAMES)), RETRY_S):
            break
    panel.button.click()
    ended = wait(app, lambda: panel.shown("run_phase") == "done")
    settled = wait(app, lambda: all(panel.shown(name).startswith(END[name]) for name in END))
    changed = wait(app, lambda: len(panel.image.seen) >= IMAGES)
    panel.grab().save(screenshot)
    seen = {
        "before": before,
        "ended": filled and ended and settled and changed,
        "images": len(panel.image.seen),
        "shape": np.shape(panel.image.image),
        "to_write": panel.to_write("saving_directory"),
        "values": {name: panel.shown(name) for name in ATTRIBUTES},
    }
    sys.stdout.write(json.dumps(seen) + "\n")
    sys.stdout.flush()
    panel.form.setModel([])
    panel.image.setModel(None)
    panel.button.setModel(None)


if __name__ == "__main__":
    main(*sys.argv[1:])
