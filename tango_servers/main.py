"""The executable ``lima2_tango INSTANCE``.

Which devices it serves says the Tango database; which cameras and pipelines there are, their entry
points.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from collections.abc import Collection, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import tango
from tango.server import Device, device_property, run

from lima2_core import registry
from lima2_core.camera.api import CameraPlugin
from lima2_core.errors import Lima2Error, PluginError
from lima2_core.flow.plugin import PipelinePlugin
from lima2_core.system.outputs import OutputPlugin
from lima2_core.worker import Worker
from tango_servers import logs, publish
from tango_servers.control_device import Lima2Control
from tango_servers.errors import error_of
from tango_servers.names import (
    CONTROL_SUFFIX,
    ERROR_REASON,
    SERVER,
    LogLevel,
    control_class,
    is_run_device,
    plugin_of,
    receiver_class,
)
from tango_servers.process import PROCESS
from tango_servers.processing_device import processing_class
from tango_servers.receiver_device import Lima2Receiver
from tango_servers.run_device import Lima2Run

log = logging.getLogger(__name__)


def arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our options, before or after the instance name, and what is left for Tango."""
    parser = argparse.ArgumentParser(
        prog=SERVER,
        description="Serve the LImA2 devices that the Tango database (TANGO_HOST) declares for "
        f"the server {SERVER}/INSTANCE.",
        epilog="Other options are handed to Tango, such as -v4.",
        allow_abbrev=False,
    )
    parser.add_argument("instance", help="instance name in the Tango database")
    parser.add_argument(
        "--log-level", choices=[level.name for level in LogLevel], default="info", metavar="LEVEL"
    )
    parser.add_argument("--log-file-path", type=Path, help="folder of the log files")
    parser.add_argument(
        "--log-file-filename",
        default="",
        metavar="PATTERN",
        help="name of the log file; %%N counts the files",
    )
    parser.add_argument("--version", action="version", version=version("lima2-suite"))
    return parser.parse_known_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until the process is told to end."""
    options, rest = arguments(sys.argv[1:] if argv is None else argv)
    pattern = options.log_file_filename or f"{options.instance}.%N.log"
    folder = options.log_file_path
    if folder is None and options.log_file_filename:
        folder = Path.cwd()
    logs.set_up(LogLevel[options.log_level], folder, pattern)
    try:
        classes, pipelines = prepare(options.instance)
    except Lima2Error as error:
        print(f"{SERVER}: {error}", file=sys.stderr)
        return 1

    background: list[Worker] = []

    def when_serving() -> None:
        PROCESS.serving = True
        log.info("serving %s/%s", SERVER, options.instance)
        if PROCESS.receivers:
            cameras = {c.plugin.name for c in classes if issubclass(c, Lima2Receiver)}
            background.append(Worker("preload", lambda: preload(pipelines, cameras)))
        else:
            settle_memory()

    # SIGTERM and SIGINT end the loop of Tango, and `run` returns.
    arguments_of_tango = [SERVER, options.instance, *rest]
    try:
        run(classes, args=arguments_of_tango, post_init_callback=when_serving, raises=True)
    except tango.DevFailed as failed:
        print(f"{SERVER}: {_reason(failed)}", file=sys.stderr)
    PROCESS.shut_down()
    log.info("%s/%s ended", SERVER, options.instance)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads inside codecs or system calls must not delay the end: all that matters is closed.
    # Where a device could not be made it has been said so, and nothing was served.
    os._exit(0 if PROCESS.serving else 1)


def _reason(failed: tango.DevFailed) -> str:
    """Why the server cannot serve, for people: the sentence of a device of ours, if it is one."""
    error = error_of(failed, SERVER)
    if not any(level.reason == ERROR_REASON for level in failed.args):
        return str(failed)
    device = error.details.get("device")
    return f"{device} cannot be set up: {error}" if device else str(error)


def prepare(instance: str) -> tuple[list[type[Device]], list[PipelinePlugin]]:
    """Make the Tango classes of an instance, and write what clients look up in the database.

    Raises:
        Lima2Error: no database, no device declared, or a camera that does not load.
    """
    server = f"{SERVER}/{instance}"
    database = _database()
    declared = list(database.get_device_class_list(server))
    names = {
        class_name
        for device, class_name in zip(declared[::2], declared[1::2], strict=True)
        if class_name != "DServer" and not is_run_device(device)
    }
    if not names:
        raise Lima2Error(
            f"the Tango database declares no device for {server}; register a deployment with "
            "'lima2 register', or check the instance name"
        )
    publish.purge_run_devices(database, server)
    pipelines = list(_pipelines())
    classes = [_device_class(name) for name in sorted(names)]
    for device_class in classes:
        name, params = device_class.__name__, device_class.plugin.params
        publish.publish_camera(database, name, params)
        if issubclass(device_class, Lima2Control):
            publish.publish_front(database, name, params, pipelines)
    publish.publish_pipelines(database, pipelines)
    return [*classes, Lima2Run, *(processing_class(plugin) for plugin in pipelines)], pipelines


def preload(pipelines: Iterable[PipelinePlugin], cameras: Collection[str]) -> None:
    """Import and compile what is slow, while nobody waits for it."""
    for plugin in pipelines:
        if plugin.preload is not None:
            plugin.preload(cameras)
    settle_memory()


def settle_memory() -> None:
    """Let the garbage collector pass over all that is there now.

    What stays for good is most of what there is: rings that runs leave behind would be looked for
    after hundreds of runs only, and the search would hold up all threads for a tenth of a second.
    """
    gc.collect()
    gc.freeze()


def _database() -> tango.Database:
    try:
        return tango.Database()
    except tango.DevFailed as failed:
        host = os.environ.get("TANGO_HOST", "(TANGO_HOST is not set)")
        raise Lima2Error(
            f"the Tango database {host} does not answer: {failed.args[0].desc}"
        ) from failed


def _pipelines() -> Iterable[PipelinePlugin]:
    for entry in registry.survey(registry.PIPELINES):
        if entry.failure:
            log.warning("the pipeline %s does not load: %s", entry.name, entry.failure)
        else:
            yield registry.load(registry.PIPELINES, entry.name)


def _outputs() -> Iterable[OutputPlugin]:
    for entry in registry.survey(registry.OUTPUTS):
        if entry.failure:
            log.warning("the output %s does not load: %s", entry.name, entry.failure)
        else:
            yield registry.load(registry.OUTPUTS, entry.name)


def _device_class(name: str) -> type[Lima2Control] | type[Lima2Receiver]:
    """The class ``Lima<Plugin>Control`` or ``Lima<Plugin>Receiver``, with the camera's settings."""
    found = plugin_of(name)
    if found is None:
        raise PluginError(
            f"the class {name} is not one of LImA2: Lima<Plugin>Control or ...Receiver"
        )
    plugin: CameraPlugin = registry.load(registry.CAMERAS, found[0])
    described = dict(plugin.properties)
    members: dict[str, object] = {"plugin": plugin}
    if found[1] == CONTROL_SUFFIX:
        base: type[Lima2Control] | type[Lima2Receiver] = Lima2Control
        class_name = control_class(plugin.name)
        outputs = tuple(_outputs())
        members["outputs"] = outputs
        for output in outputs:
            described |= output.settings
    else:
        base, class_name = Lima2Receiver, receiver_class(plugin.name)
    settings = {
        # As lists: of a text Tango would take the first line, and leave out the others.
        key: device_property(dtype=(str,), default_value=[], doc=doc)
        for key, doc in described.items()
    }
    made: type[Lima2Control] | type[Lima2Receiver] = type(
        class_name, (base,), {**members, "__doc__": base.__doc__, **settings}
    )
    return made
