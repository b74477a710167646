"""What a detector never does with images is refused as soon as it is written."""

import pytest

from camera_plugins.jungfrau.plugin import PLUGIN as JUNGFRAU
from camera_plugins.reader.plugin import PLUGIN as READER
from camera_plugins.simulator.plugin import PLUGIN as SIMULATOR
from lima2_core.camera.api import CameraEnv
from lima2_core.errors import ParamError
from lima2_core.service.control import ControlService
from tango_servers.front_limits import check_limits

OPERATIONS = [
    ("binning", {"x": 2}),
    ("roi", {"dimensions": {"x": 8, "y": 8}}),
    ("flip", "up_down"),
]
OF_CONTRACT = {
    "trigger_modes",
    "expo_time_range",
    "latency_time_range",
    "nb_frames_per_trigger_range",
}


@pytest.fixture
def service_of():
    made = []

    def make(plugin):
        made.append(ControlService("c", plugin, CameraEnv(), None, lambda: 1))
        return made[-1]

    yield make
    for service in made:
        service.close()


@pytest.mark.parametrize("plugin", [JUNGFRAU, READER], ids=lambda plugin: plugin.name)
@pytest.mark.parametrize(("name", "value"), OPERATIONS)
def test_an_operation_that_the_detector_does_not_do_is_refused_at_the_write(
    service_of, plugin, name, value
):
    service = service_of(plugin)
    asked = plugin.params.from_tree({"img": {name: value}})
    path = f"acquisition.img.{name}"

    for written in (path, ""):
        with pytest.raises(ParamError, match="the detector does not do this") as refused:
            check_limits(asked, written, service)
        assert refused.value.path == path
    check_limits(plugin.params(), path, service)  # as by default
    check_limits(asked, "acquisition.acq.expo_time", service)  # something else is written


@pytest.mark.parametrize(("name", "value"), OPERATIONS)
def test_an_operation_that_the_detector_does_is_taken(service_of, name, value):
    service = service_of(SIMULATOR)

    check_limits(SIMULATOR.params.from_tree({"img": {name: value}}), "", service)


@pytest.mark.parametrize("plugin", [JUNGFRAU, READER, SIMULATOR], ids=lambda plugin: plugin.name)
def test_foreign_clients_are_told_what_the_contract_says_and_no_more(service_of, plugin):
    assert set(service_of(plugin).detector_capabilities()) == OF_CONTRACT
