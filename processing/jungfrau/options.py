"""What the commands ``lima2 pedestal`` and ``lima2 calibration`` have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_core.errors import ParamError
from processing.jungfrau.calibration import PER_KEV, STAGES, BadPixel, Calibration
from processing.jungfrau.conditions import (
    Conditions,
    differences,
    exposure_text,
    voltage_text,
)

_OPTIONS = {
    "exposure_s": "--exposure",
    "high_voltage_v": "--high-voltage",
    "high_gain_g0": "--high-gain",
    "readout_speed": "--speed",
    "temperature_c": "--temperature",
}
_UNKNOWN = "-"
_REASONS = (
    (BadPixel.UNSEEN, "too few readings"),
    (BadPixel.WRONG_STAGE, "readings of another stage"),
    (BadPixel.NOISY, "noisy"),
    (BadPixel.FROZEN, "always the same value"),
)


def add_conditions(parser: argparse.ArgumentParser, when: str) -> None:
    """Add the options that tell how dark frames were taken."""
    group = parser.add_argument_group(
        "how the dark frames were taken",
        f"{when}. Prepare compares it with the run whose frames are converted.",
    )
    add = group.add_argument
    add("--exposure", type=float, metavar="US", help="exposure time in microseconds")
    add("--high-voltage", type=float, metavar="V", help="sensor bias in volts")
    add("--high-gain", choices=["on", "off"], help="whether G0 was the high gain one (HG0)")
    add("--speed", choices=["full", "half", "quarter"], help="readout speed")
    add("--temperature", type=float, metavar="DEGC", help="of the modules, in degrees Celsius")


def asked_conditions(options: argparse.Namespace) -> Conditions:
    """What these options tell.

    Raises:
        ParamError: there is no such value.
    """
    for name in ("exposure", "high_voltage"):
        value = getattr(options, name)
        if value is not None and not (value > 0 or (value == 0 and name == "high_voltage")):
            raise ParamError(f"{value:g} is not possible", path=f"--{name.replace('_', '-')}")
    return Conditions(
        exposure_s=None if options.exposure is None else options.exposure / 1e6,
        high_voltage_v=options.high_voltage,
        high_gain_g0=None if options.high_gain is None else options.high_gain == "on",
        readout_speed=options.speed or "",
        temperature_c=options.temperature,
    )


def completed(told: Conditions, asked: Conditions, name: str) -> Conditions:
    """What a file tells, and what options tell where it does not.

    Raises:
        ParamError: an option contradicts the file.
    """
    for one in differences(told, asked):
        raise ParamError(
            f"{name} says that it was taken {one.left}, not {one.right}; leave the option out",
            path=_OPTIONS[one.name],
        )
    return told.filled(asked)


def described(made: Calibration) -> Iterator[str]:
    """A calibration for people, line by line."""
    modules = ", ".join(map(str, made.module_ids))
    yield f"  modules  {modules}"
    yield f"  gains    {_gains(made)}"
    yield f"  date     {made.date or _UNKNOWN}"
    if made.valid_from or made.valid_until:
        yield f"  valid    from {made.valid_from or _UNKNOWN} until {made.valid_until or _UNKNOWN}"
    bad = made.mask != 0
    yield f"  masked   {np.count_nonzero(bad)} of {bad.size} pixels ({100 * bad.mean():.2f} %)"
    yield ""
    table = [
        ("", "G0", "G1", "G2"),
        ("dark frames", *(str(count) if count else _UNKNOWN for count in made.pedestal_frames)),
        ("pedestal, median, ADU", *_medians(made.pedestal)),
        ("rms, median, ADU", *_medians(made.pedestal_rms)),
        ("exposure time", *_each(made, "exposure_s", exposure_text)),
        ("high voltage", *_each(made, "high_voltage_v", voltage_text)),
        ("high gain in G0", *_each(made, "high_gain_g0", lambda on: "on" if on else "off")),
        ("readout speed", *_each(made, "readout_speed", str)),
        ("temperature", *_each(made, "temperature_c", lambda value: f"{value:g} degC")),
        ("taken", *_each(made, "date", str)),
    ]
    for reason, words in _REASONS:
        counts = (np.count_nonzero(made.mask & (int(reason) << 8 * n)) for n in range(STAGES))
        table.append((f"bad: {words}", *map(str, counts)))
    widths = [max(len(row[column]) for row in table) for column in range(STAGES + 1)]
    for row in table:
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()
    for number, stage in enumerate(made.conditions):
        if stage.acq_id:
            yield f"  {f'run of G{number}'.ljust(widths[0])}  {stage.acq_id}"
    others = [("no gain known in G0", BadPixel.NO_GAIN), ("set by hand", BadPixel.USER)]
    for words, reason in others:
        yield f"  {f'bad: {words}'.ljust(widths[0])}  {np.count_nonzero(made.mask & int(reason))}"


def _gains(made: Calibration) -> str:
    if not np.isfinite(made.gain).any():
        return "not known"
    if made.gain_units == PER_KEV or not made.gain_energy_kev:
        return made.gain_units
    return f"{made.gain_units}, photons of {made.gain_energy_kev:g} keV"


def _medians(maps: NDArray[np.float32]) -> Iterator[str]:
    for stage in range(STAGES):
        values = maps[:, stage]
        known = values[np.isfinite(values)]
        yield f"{np.median(known):.1f}" if known.size else _UNKNOWN


def _each(made: Calibration, name: str, text: Callable[[Any], str]) -> Iterator[str]:
    for stage in made.conditions:
        value = getattr(stage, name)
        yield _UNKNOWN if value is None or value == "" else text(value)
