"""Deployments: which servers, devices and properties make up a system, read from YAML.

A deployment is a folder with one file for each server instance, in the format that NosqlTangoDB
reads (`db_config/README.md`). Those of the suite are found by name, those of a site by folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeAlias

import yaml

from lima2_core.errors import ParamError, StorageError
from tango_servers.names import natural_key

DATA_PACKAGE = "db_config"
SUFFIXES = (".yaml", ".yml")

Node: TypeAlias = "str | list[Node] | dict[str, Node]"
"""What the YAML reader gives: texts in lists and mappings."""

_WORD = re.compile(r"[A-Za-z0-9_.+@-]{1,255}")


@dataclass(frozen=True, slots=True)
class DeviceEntry:
    """One Tango device: its name, its class and its properties, each a list of texts."""

    name: str
    class_name: str
    properties: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_control(self) -> bool:
        """Whether its class is one of ``Lima<Plugin>Control``."""
        return self.class_name.startswith("Lima") and self.class_name.endswith("Control")

    @property
    def is_receiver(self) -> bool:
        """Whether its class is one of ``Lima<Plugin>Receiver``."""
        return self.class_name.startswith("Lima") and self.class_name.endswith("Receiver")


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """One server process: ``executable instance``, and the devices that it holds."""

    executable: str
    instance: str
    devices: tuple[DeviceEntry, ...]

    @property
    def full_name(self) -> str:
        """Its name in the Tango database."""
        return f"{self.executable}/{self.instance}"


@dataclass(frozen=True, slots=True)
class Deployment:
    """The servers of a system: those with a control first, then in natural order."""

    name: str
    servers: tuple[ServerEntry, ...]

    @property
    def devices(self) -> tuple[DeviceEntry, ...]:
        """All devices, in the order of their servers."""
        return tuple(device for server in self.servers for device in server.devices)

    @property
    def control(self) -> DeviceEntry:
        """Its only control.

        Raises:
            ParamError: it has none or several.
        """
        controls = [device for device in self.devices if device.is_control]
        if len(controls) != 1:
            raise ParamError(
                f"a system has one control, this deployment has {len(controls)}", path=self.name
            )
        return controls[0]

    @property
    def receivers(self) -> tuple[str, ...]:
        """Names of the receivers, receiver 0 first: as the control says, or in natural order."""
        declared = self.control.properties.get("receivers", ())
        found = (device.name for device in self.devices if device.is_receiver)
        return declared or tuple(sorted(found, key=natural_key))

    @property
    def topology(self) -> str:
        """How frames are shared out, as the control says."""
        default = "single" if len(self.receivers) == 1 else "round_robin"
        return self.control.properties.get("receiver_topology", (default,))[0]

    def in_domain(self, old: str | None, new: str) -> Deployment:
        """The same with domain ``new`` in place of ``old`` (None: the only one there is).

        Device names within properties follow.

        Raises:
            ParamError: no device has this domain, or there are several to choose from.
        """
        present = sorted({device.name.split("/")[0] for device in self.devices}, key=str.lower)
        if old is None and len(present) > 1:
            raise ParamError(f"say which: the domains are {', '.join(present)}", path="domain")
        old = present[0] if old is None else old
        if old.lower() not in (domain.lower() for domain in present):
            raise ParamError(
                f"no device is in '{old}'; the domains are {', '.join(present)}", path="domain"
            )
        if not _WORD.fullmatch(new):
            raise ParamError(f"'{new}' cannot be a part of a device name", path="domain")
        renamed = {
            device.name.lower(): _with_domain(device.name, new)
            for device in self.devices
            if device.name.split("/")[0].lower() == old.lower()
        }

        def moved(text: str) -> str:
            return renamed.get(text.lower(), text)

        return replace(
            self,
            servers=tuple(
                replace(
                    server,
                    devices=tuple(
                        DeviceEntry(
                            moved(device.name),
                            device.class_name,
                            {
                                name: tuple(moved(value) for value in values)
                                for name, values in device.properties.items()
                            },
                        )
                        for device in server.devices
                    ),
                )
                for server in self.servers
            ),
        )

    def write(self, folder: Path) -> None:
        """Write one file for each server into ``folder``, which is made if need be.

        Raises:
            StorageError: a file cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for server in self.servers:
                # JSON is YAML in which every text stays a text.
                text = json.dumps(_to_node(server), indent=2) + "\n"
                (folder / f"{server.executable}_{server.instance}.yaml").write_text(
                    text, encoding="utf-8"
                )
        except OSError as error:
            raise StorageError(
                f"Cannot write deployment '{self.name}' to {folder}: {error.strerror}",
                file=str(error.filename),
            ) from error


def deployment_names() -> tuple[str, ...]:
    """Names of the deployments that come with the suite."""
    folders = (item for item in resources.files(DATA_PACKAGE).iterdir() if item.is_dir())
    return tuple(sorted(item.name for item in folders if any(_yaml_files(item))))


def load_deployment(name_or_folder: str | Path) -> Deployment:
    """Read a deployment: a name of `deployment_names`, or a folder.

    Raises:
        ParamError: there is none, or its content is wrong; ``path`` names file and place.
        StorageError: a file cannot be read.
    """
    source: Traversable = Path(name_or_folder)
    if name_or_folder in deployment_names():
        source = resources.files(DATA_PACKAGE) / str(name_or_folder)
    elif not source.is_dir():
        raise ParamError(
            f"'{name_or_folder}' is neither a folder nor one of {', '.join(deployment_names())}",
            path="deployment",
        )
    servers: list[ServerEntry] = []
    for file in sorted(_yaml_files(source), key=lambda item: natural_key(item.name)):
        content = _read(file)
        nodes = content if isinstance(content, list) else [content]
        for number, node in enumerate(nodes):
            place = file.name if len(nodes) == 1 else f"{file.name}: {number}"
            servers.append(_server(node, place))
    if not servers:
        raise ParamError(f"'{name_or_folder}' has no file *.yaml", path="deployment")
    _refuse_duplicates(servers)
    return Deployment(source.name, tuple(sorted(servers, key=_start_order)))


def _start_order(server: ServerEntry) -> tuple[bool, tuple[tuple[int, str], ...]]:
    # Clients that start one MPI job rely on it: rank 0 is the control (contract 01, 1.2).
    return not any(device.is_control for device in server.devices), natural_key(server.instance)


def _with_domain(name: str, domain: str) -> str:
    _, family, member = name.split("/")
    return f"{domain}/{family}/{member}"


def _to_node(server: ServerEntry) -> dict[str, object]:
    return {
        "server": server.executable,
        "personal_name": server.instance,
        "device": [
            {
                "tango_name": device.name,
                "class": device.class_name,
                "properties": {key: list(values) for key, values in device.properties.items()},
            }
            for device in server.devices
        ],
    }


def _yaml_files(folder: Traversable) -> Iterator[Traversable]:
    return (item for item in folder.iterdir() if item.name.endswith(SUFFIXES) and item.is_file())


class _TextLoader(yaml.BaseLoader):
    """Every scalar stays a text, as in a Tango database; a key given twice is an error."""

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Hashable, object]:
        keys = [key.value for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"'{twice[0]}' is given twice", node.start_mark
            )
        return super().construct_mapping(node, deep=deep)


def _read(file: Traversable) -> Node:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise StorageError(f"Cannot read {file.name}: {error.strerror}", file=str(file)) from error
    except UnicodeDecodeError as error:
        raise ParamError(f"this is no UTF-8 text: {error.reason}", path=file.name) from error
    try:
        content: Node = yaml.load(text, Loader=_TextLoader)
    except yaml.YAMLError as error:
        raise ParamError(f"this is not YAML: {error}", path=file.name) from error
    return content


def _server(node: Node | None, place: str) -> ServerEntry:
    fields = _fields(node, place, required=("server", "personal_name", "device"))
    devices = fields["device"]
    if not isinstance(devices, list) or not devices:
        raise ParamError("a list of devices is wanted, one or more", path=f"{place}: device")
    return ServerEntry(
        executable=_word(fields["server"], f"{place}: server"),
        instance=_word(fields["personal_name"], f"{place}: personal_name"),
        devices=tuple(
            _device(device, f"{place}: device.{number}") for number, device in enumerate(devices)
        ),
    )


def _device(node: Node, place: str) -> DeviceEntry:
    fields = _fields(node, place, required=("tango_name", "class"), optional=("properties",))
    name = fields["tango_name"]
    parts = name.split("/") if isinstance(name, str) else []
    if not isinstance(name, str) or len(parts) != 3 or not all(map(_WORD.fullmatch, parts)):
        raise ParamError(
            f"'{name}' is no device name; it should be like id00/limacontrol/simulator",
            path=f"{place}.tango_name",
        )
    properties = fields.get("properties", {})
    if not isinstance(properties, dict):
        raise ParamError("names and values are wanted", path=f"{place}.properties")
    return DeviceEntry(
        name,
        _word(fields["class"], f"{place}.class"),
        {key: _values(value, f"{place}.properties.{key}") for key, value in properties.items()},
    )


def _fields(
    node: Node | None, place: str, *, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, Node]:
    known = required + optional
    if not isinstance(node, dict):
        raise ParamError(f"the keys {', '.join(known)} are wanted here", path=place)
    for key in node:
        if key not in known:
            raise ParamError(f"unknown key '{key}'; known are {', '.join(known)}", path=place)
    for key in required:
        if key not in node:
            raise ParamError(f"'{key}' is missing", path=place)
    return node


def _word(node: Node, place: str) -> str:
    if not isinstance(node, str) or not _WORD.fullmatch(node):
        raise ParamError(f"'{node}' is no name; letters, digits and _.+@- may be in it", path=place)
    return node


def _values(node: Node, place: str) -> tuple[str, ...]:
    values = node if isinstance(node, list) else [node]
    texts = tuple(value for value in values if isinstance(value, str) and value)
    if not texts or len(texts) != len(values):
        raise ParamError("a text or a list of texts is wanted, none of them empty", path=place)
    return texts


def _refuse_duplicates(servers: list[ServerEntry]) -> None:
    instances: set[str] = set()
    owners: dict[str, str] = {}
    for server in servers:
        if server.full_name.lower() in instances:
            raise ParamError("this server is declared twice", path=server.full_name)
        instances.add(server.full_name.lower())
        for device in server.devices:
            owner = owners.get(device.name.lower())
            if owner is not None:
                raise ParamError(
                    f"this device is declared twice, in {owner} and in {server.full_name}",
                    path=device.name,
                )
            owners[device.name.lower()] = server.full_name
