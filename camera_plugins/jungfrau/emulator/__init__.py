"""Sends what the modules of a JUNGFRAU send, over real sockets, with faults on demand.

It stands for the packet generator of an FPGA and for a detector without beam; software, paced by
the clock of the computer.
"""

from camera_plugins.jungfrau.emulator.account import Account, LineAccount
from camera_plugins.jungfrau.emulator.images import (
    ImageSource,
    dark_images,
    numbered_image,
    numbered_images,
    pattern_image,
    repeated_image,
    stacked_images,
)
from camera_plugins.jungfrau.emulator.sending import Emulator, EmulatorConfig

__all__ = [
    "Account",
    "Emulator",
    "EmulatorConfig",
    "ImageSource",
    "LineAccount",
    "dark_images",
    "numbered_image",
    "numbered_images",
    "pattern_image",
    "repeated_image",
    "stacked_images",
]
