"""What a JUNGFRAU has to be told, and in which order; nothing here talks to it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from camera_plugins.jungfrau._sdk import Step, Value
from camera_plugins.jungfrau.backend import Setup
from camera_plugins.jungfrau.counts import counts_of
from camera_plugins.jungfrau.installation import Entry
from camera_plugins.jungfrau.params import GainMode, JungfrauDetParams
from camera_plugins.jungfrau.slsdet_site import Site, Way
from camera_plugins.jungfrau.wire import MODULE_ROWS
from lima2_core.errors import ParamError

MAX_ENTRIES: Final = 32
GAIN_MODES: Final[Mapping[GainMode, str]] = {
    "dynamic": "DYNAMIC",
    "forceswitchg1": "FORCE_SWITCH_G1",
    "forceswitchg2": "FORCE_SWITCH_G2",
    "fixg1": "FIX_G1",
    "fixg2": "FIX_G2",
}
SPEEDS: Final = {"full": "FULL_SPEED", "half": "HALF_SPEED", "quarter": "QUARTER_SPEED"}

_LAST_CELL_1_0: Final = 15
_LAST_CELL_1_1: Final = 3


def check_hardware(det: JungfrauDetParams, chip: float, hardware: str) -> None:
    """Refuse what these modules cannot do.

    Raises:
        ParamError: the path names the parameter.
    """
    if chip > 1.0 and det.additional_storage_cells:
        raise ParamError(
            f"chip {chip:g} has no additional storage cells; give 0",
            path="det.additional_storage_cells",
        )
    if chip > 1.0 and _LAST_CELL_1_1 < det.storage_cell_start < _LAST_CELL_1_0:
        raise ParamError(
            f"chip {chip:g} has the storage cells 0 to {_LAST_CELL_1_1}",
            path="det.storage_cell_start",
        )
    if hardware.startswith("1") and det.readout_rows != MODULE_ROWS:
        raise ParamError(
            f"modules of version {hardware} cannot read out a part; give {MODULE_ROWS}",
            path="det.readout_rows",
        )
    if hardware.startswith("1") and det.readout_speed == "full":
        raise ParamError(
            f"modules of version {hardware} have no full speed; choose half",
            path="det.readout_speed",
        )


def start_cell(det: JungfrauDetParams, chip: float) -> int:
    """The first storage cell: the default is the last one, whatever its number is."""
    return min(det.storage_cell_start, _LAST_CELL_1_1) if chip > 1.0 else det.storage_cell_start


def network_name(site: Site, destinations: Sequence[Entry]) -> str:
    """A short text that stands for the network as it has to be set."""
    return hashlib.blake2b(repr((site, destinations)).encode(), digest_size=12).hexdigest()


def network_as_set(site: Site, destinations: Sequence[Entry]) -> dict[str, list[Value]]:
    """What can be read back of the network, by item."""
    expected: dict[str, list[Value]] = {
        "interfaces": [site.interfaces] * site.modules,
        "destinations": [len(destinations)] * site.modules,
    }
    if len(destinations) > 1:  # the others cannot be read
        expected["note"] = [network_name(site, destinations)]
    first = _ports(site, destinations[0])
    for port, suffix in enumerate(("", "2")[: site.interfaces]):
        ours = first[port :: site.interfaces]
        expected[f"source_ip{suffix}"] = [way.source_ip for way, _, _ in ours]
        expected[f"source_mac{suffix}"] = [way.source_mac for way, _, _ in ours]
        expected[f"destination_ip{suffix}"] = [ip for _, ip, _ in ours]
        expected[f"destination_mac{suffix}"] = [way.mac_of(ip) for way, ip, _ in ours]
        expected[f"destination_port{suffix}"] = [number for _, _, number in ours]
    return expected


def network_steps(site: Site, destinations: Sequence[Entry]) -> list[Step]:
    """Set all addresses anew.

    Whenever all is set a module configures its network, for two seconds. So what completes it
    comes last, for as many modules at once as can be.

    Raises:
        ParamError: there are too many receivers, or one that there is no way to.
    """
    if len(destinations) > MAX_ENTRIES:
        raise ParamError(
            f"{len(destinations)} receivers in turns are more than the {MAX_ENTRIES} that the "
            "detector can send to",
            path="det.dispatch_mode",
        )
    # Entries can only be dropped by clearing all, which clears the sources too.
    steps = [Step("do", "clear_destinations"), Step("set", "interfaces", site.interfaces)]
    for number, entry in enumerate(destinations[1:], 1):
        for module in range(site.modules):
            steps.append(_entry_step(site, entry, module, number))
    last: dict[str, list[int]] = {}
    for index, (way, ip, number) in enumerate(_ports(site, destinations[0])):
        module, port = divmod(index, site.interfaces)
        suffix = "2" if port else ""
        for name, value in (
            ("destination_port", number),
            ("destination_mac", way.mac_of(ip)),
            ("source_ip", way.source_ip),
            ("source_mac", way.source_mac),
        ):
            steps.append(Step("set", name + suffix, value, (module,)))
        if port:
            steps.append(Step("set", "destination_ip2", ip, (module,)))
        else:
            last.setdefault(ip, []).append(module)
    steps += [Step("set", "destination_ip", ip, tuple(them)) for ip, them in last.items()]
    steps.append(Step("do", "validate_network"))
    steps.append(Step("note", value=network_name(site, destinations)))
    return steps


def _ports(site: Site, entry: Entry) -> list[tuple[Way, str, int]]:
    return [(way, ip, number) for way, (ip, number) in zip(site.ways, entry, strict=True)]


def _entry_step(site: Site, entry: Entry, module: int, number: int) -> Step:
    """The Python of slsdet lacks the type of an entry; the text command does not need it."""
    words = []
    first = module * site.interfaces
    for port, (way, ip, udp) in enumerate(_ports(site, entry)[first : first + site.interfaces]):
        suffix = "2" if port else ""
        words.append(f"ip{suffix}={ip} mac{suffix}={way.mac_of(ip)} port{suffix}={udp}")
    return Step("text", value=f"{module}:{number}:udp_dstlist {' '.join(words)}")


def slow_steps(det: JungfrauDetParams, now: Mapping[str, Sequence[Any]]) -> list[Step]:
    """What takes the modules a second or two, or touches them: only what differs from ``now``."""
    steps: list[Step] = []

    def need(name: str, value: Value) -> None:
        if any(there != value for there in now[name]):
            steps.append(Step("set", name, value))

    if det.high_voltage >= 0:
        need("high_voltage", det.high_voltage)
    need("settings", "HIGHGAIN0" if det.high_gain_g0 else "GAIN0")
    need("gain_mode", GAIN_MODES[det.gain_mode])
    need("readout_speed", SPEEDS[det.readout_speed])
    need("rows", det.readout_rows)
    need("flip_rows", False)
    need("pedestal_mode", False)
    need("first_destination", 0)
    return steps


SLOW_ITEMS: Final = (
    "high_voltage",
    "settings",
    "gain_mode",
    "readout_speed",
    "rows",
    "flip_rows",
    "pedestal_mode",
    "first_destination",
)


def acquisition_steps(setup: Setup, chip: float) -> list[Step]:
    """What is set for every acquisition."""
    acq, det = setup.params.acq, setup.params.det
    frames, triggers = counts_of(setup.params)
    # Chip 1.1 refuses any number of additional cells, even none.
    cells = [Step("set", "storage_cells", det.additional_storage_cells)] if chip <= 1.0 else []
    return [
        *cells,
        Step("set", "storage_cell_start", start_cell(det, chip)),
        Step(
            "set",
            "timing",
            "AUTO_TIMING" if acq.trigger_mode == "internal" else "TRIGGER_EXPOSURE",
        ),
        Step("set", "frames", frames),
        Step("set", "triggers", triggers),
        Step("set", "exposure_s", acq.expo_time_s),
        Step("set", "period_s", acq.period_s),
        Step("set", "delay_s", 0.0),
        Step("set", "next_number", setup.first_number),
        Step("do", "validate_network"),
    ]
