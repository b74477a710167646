"""Devices that come and go with runs."""

from __future__ import annotations

import tango


def make_device(class_name: str, device: str) -> None:
    """Make a device in this process and in the database.

    Threads: by who holds the lock of `tango_servers.process` for devices.

    Raises:
        tango.DevFailed: there is one of this name, or the database refuses.
    """
    tango.Util.instance().create_device(class_name, device)


def delete_device(device: str) -> None:
    """Delete a device from this process and from the database.

    Unlike ``tango.Util.delete_device``, which makes a list of all devices and never frees it
    (PyTango 10.3): a server of many runs would grow without end.

    Threads: by who holds the lock of `tango_servers.process` for devices.

    Raises:
        tango.DevFailed: there is none of this name, or the database refuses.
    """
    util = tango.Util.instance()
    util.get_device_by_name(device).get_device_class().device_destroyer(device)
    util.get_database().delete_device(device)


def forget_peers() -> None:
    """Forget the names of all devices that proxies were made of.

    Tango keeps them for its command QuerySubDevice, those of runs that are long gone too.
    """
    tango.Util.instance().get_sub_dev_diag().remove_sub_devices()
