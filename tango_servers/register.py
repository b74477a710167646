"""``lima2 register``: write a deployment into a Tango database.

What is missing or different is worked out first and written afterwards, so that nothing is
written when something stands in the way, and a second run finds nothing to do.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import tango

from lima2_core.errors import BusyError, Lima2Error, ParamError, StateError, StorageError
from tango_servers.deployment import (
    Deployment,
    DeviceEntry,
    ServerEntry,
    deployment_names,
    load_deployment,
)

Database: TypeAlias = Any
"""`tango.Database`, which has no types."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something to be written, and the sentence that tells of it; without ``do``, a remark."""

    sentence: str
    do: Callable[[], None] | None = None


def open_database(tango_host: str | None = None) -> Database:
    """Connect to the database at ``HOST:PORT``, or to that of the environment (TANGO_HOST).

    Raises:
        ParamError: this is no ``HOST:PORT``.
        BusyError: no database answers there.
    """
    shown = tango_host or os.environ.get("TANGO_HOST") or "the default of this computer"
    try:
        if tango_host is None:
            return tango.Database()
        host, separator, port = tango_host.rpartition(":")
        if not (separator and host and port.isdecimal()):
            raise ParamError(f"'{tango_host}' is not of the form HOST:PORT", path="tango_host")
        return tango.Database(host, int(port))
    except tango.DevFailed as failed:
        raise BusyError(
            f"No Tango database answers at {shown}: {_reason(failed)}. Start it, or name another"
            " with --tango-host HOST:PORT or the variable TANGO_HOST.",
            tango_host=shown,
        ) from failed


def plan(database: Database, deployment: Deployment, *, force: bool = False) -> list[Step]:
    """Compare the database with the deployment; the steps bring the first to the second.

    Raises:
        StateError: a device belongs to another server or class, and ``force`` is not set.
        StorageError: the database refused a question.
    """
    steps: list[Step] = []
    conflicts: list[str] = []
    try:
        for server in deployment.servers:
            present = _devices_of(database, server)
            for device in server.devices:
                steps += _device_steps(database, server, device, present, conflicts)
            steps += _others(server, present)
    except tango.DevFailed as failed:
        raise _refused(failed) from failed
    if conflicts and not force:
        raise StateError(
            f"Nothing was written: {'; '.join(conflicts)}. Take over with --force, or choose"
            " other names with --domain."
        )
    return steps


def carry_out(steps: Sequence[Step]) -> None:
    """Write the steps of `plan`, in order.

    Raises:
        StorageError: the database refused one; those before it are written.
    """
    try:
        for step in steps:
            if step.do is not None:
                step.do()
    except tango.DevFailed as failed:
        raise _refused(failed) from failed


def main(argv: Sequence[str] | None = None) -> int:
    """Write a deployment into a Tango database."""
    args = _parser().parse_args(argv)
    try:
        deployment = load_deployment(args.deployment)
        if args.domain:
            old, _, new = args.domain.rpartition("=")
            deployment = deployment.in_domain(old or None, new)
        database = open_database(args.tango_host)
        steps = plan(database, deployment, force=args.force)
        if not args.dry_run:
            carry_out(steps)
        where = f"{database.get_db_host()}:{database.get_db_port()}"
    except Lima2Error as error:
        print(error, file=sys.stderr)
        return 1
    for step in steps:
        print(step.sentence)
    written = sum(step.do is not None for step in steps)
    if written == 0:
        print(f"Deployment '{deployment.name}' is already in the database at {where}.")
    elif args.dry_run:
        print(f"Nothing was written; {written} changes are due in the database at {where}.")
    else:
        print(f"Deployment '{deployment.name}' is in the database at {where}. Next, start:")
        for server in deployment.servers:
            print(f"    {server.executable} {server.instance}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lima2 register",
        description="Write the servers, devices and properties of a deployment into a Tango"
        " database. What is there already stays; what differs is changed.",
        epilog=f"Deployments of the suite: {', '.join(deployment_names())}.",
    )
    parser.add_argument("deployment", metavar="DEPLOYMENT", help="a name (see below) or a folder")
    parser.add_argument(
        "--tango-host", metavar="HOST:PORT", help="the database (default: that of TANGO_HOST)"
    )
    parser.add_argument(
        "--domain",
        metavar="[OLD=]NEW",
        help="put the devices into another Tango domain, such as id00=id31",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be written")
    parser.add_argument(
        "--force", action="store_true", help="take devices over from other servers or classes"
    )
    return parser


def _devices_of(database: Database, server: ServerEntry) -> dict[str, tuple[str, str]]:
    """Name and class of what the database lists for a server, by lower case name."""
    listed = list(database.get_device_class_list(server.full_name))
    pairs = zip(listed[::2], listed[1::2], strict=True)
    return {name.lower(): (name, class_name) for name, class_name in pairs}


def _device_steps(
    database: Database,
    server: ServerEntry,
    device: DeviceEntry,
    present: dict[str, tuple[str, str]],
    conflicts: list[str],
) -> list[Step]:
    what = f"device {device.name} of class {device.class_name} in server {server.full_name}"
    if device.name.lower() in present:
        owner, class_name = server.full_name, present[device.name.lower()][1]
    else:
        owner, class_name = _owner(database, device.name)
    if not owner:
        steps = [Step(f"New {what}.", partial(_add, database, server, device))]
    elif owner.lower() == server.full_name.lower() and class_name == device.class_name:
        steps = [Step(f"Already there: {what}.")]
    else:
        was = f"device {device.name} of class {class_name} is in server {owner}"
        conflicts.append(was)
        steps = [
            Step(
                f"Taken over: {what}; it was of class {class_name} in server {owner},"
                " restart that one if it runs.",
                partial(_take_over, database, server, device),
            )
        ]
    return steps + _property_steps(database, device, known=bool(owner))


def _property_steps(database: Database, device: DeviceEntry, *, known: bool) -> list[Step]:
    if not device.properties:
        return []
    names = list(device.properties)
    present = database.get_device_property(device.name, names) if known else {}
    steps: list[Step] = []
    for name, values in device.properties.items():
        old = list(present.get(name, ()))
        what = f"property {name} of {device.name}"
        if old == list(values):
            steps.append(Step(f"Already there: {what} = {', '.join(values)}."))
            continue
        instead = f" instead of {', '.join(old)}" if old else ""
        verb = "Changed" if old else "New"
        put = partial(database.put_device_property, device.name, {name: list(values)})
        steps.append(Step(f"{verb} {what} = {', '.join(values)}{instead}.", put))
    return steps


def _others(server: ServerEntry, present: dict[str, tuple[str, str]]) -> list[Step]:
    """Remarks on devices that the server holds beside those of the deployment."""
    named = {device.name.lower() for device in server.devices}
    return [
        Step(f"Left alone: device {name} of class {class_name}, also in {server.full_name}.")
        for key, (name, class_name) in present.items()
        # Receivers make and delete the processing devices themselves.
        if key not in named and class_name != "DServer" and "/limaprocessing/" not in key
    ]


def _owner(database: Database, device: str) -> tuple[str, str]:
    """Server and class of a device, empty if the database does not know it."""
    try:
        class_name = database.get_class_for_device(device)
    except tango.DevFailed as failed:
        # MariaDB- and YAML-backed databases agree on this reason, each with its own text.
        if failed.args[0].reason == "DB_IncorrectArguments":
            return "", ""
        raise
    return database.get_device_info(device).ds_full_name, class_name


def _add(database: Database, server: ServerEntry, device: DeviceEntry) -> None:
    info = tango.DbDevInfo()
    info.name = device.name
    info._class = device.class_name  # noqa: SLF001  Tango's name for it
    info.server = server.full_name
    database.add_device(info)


def _take_over(database: Database, server: ServerEntry, device: DeviceEntry) -> None:
    # A database may ignore the addition of a device that it knows, or forget the properties
    # of one that is deleted.
    names = list(database.get_device_property_list(device.name, "*").value_string)
    kept = database.get_device_property(device.name, names) if names else {}
    database.delete_device(device.name)
    _add(database, server, device)
    if kept:
        database.put_device_property(device.name, {key: list(kept[key]) for key in kept})


def _refused(failed: tango.DevFailed) -> StorageError:
    return StorageError(f"The Tango database refused: {_reason(failed)}", file="tango database")


def _reason(failed: tango.DevFailed) -> str:
    return str(failed.args[0].desc).strip() if failed.args else "no reason given"
