"""Who finds whom: the place of a receiver in its system, and the receivers of a control."""

from __future__ import annotations

import os
import uuid as uuid_module
from collections.abc import Sequence

import tango

from lima2_core.camera.dispatch import Share
from lima2_core.errors import ParamError
from lima2_core.ids import ReceiverIdx
from tango_servers.names import control_class, domain_of, natural_key, receiver_class
from tango_servers.settings import check_place


def checked_uuid(text: str) -> str:
    """A uuid in the form that all clients use.

    Raises:
        ParamError: it is none.
    """
    try:
        return str(uuid_module.UUID(text))
    except ValueError as error:
        raise ParamError(f"{text!r} is no uuid", path="uuid") from error


def receivers_of(control: str, plugin: str, listed: Sequence[str]) -> tuple[str, ...]:
    """Receivers of a control device, in the order of their indices.

    Those of its property ``receivers``; else all of the same camera in the same domain, in
    natural order (2 before 10).
    """
    return tuple(listed) or _in_domain(receiver_class(plugin), domain_of(control))


def share_of(receiver: str, plugin: str, index: int, count: int, alone: bool) -> Share:
    """The place of a receiver.

    By its own properties ``index`` and ``count`` (-1 and 0 if not set); else by the list of the
    control that names it; else by the MPI rank of the process if it is ``alone`` there; else by
    natural order among those of the same camera in the same domain.

    Raises:
        ParamError: the properties contradict themselves.
    """
    check_place(index, count)
    if count > 0:
        return Share(ReceiverIdx(index), count)
    domain = domain_of(receiver)
    for control in _in_domain(control_class(plugin), domain):
        found = _position(receiver, _property(control, "receivers"))
        if found is not None:
            return found
    rank, size = _mpi()
    if alone and size > 1 and rank > 0:
        return Share(ReceiverIdx(rank - 1), size - 1)
    return _position(receiver, _in_domain(receiver_class(plugin), domain)) or Share()


def _position(receiver: str, names: Sequence[str]) -> Share | None:
    lower = [name.lower() for name in names]
    if receiver.lower() not in lower:
        return None
    return Share(ReceiverIdx(lower.index(receiver.lower())), len(lower))


def _mpi() -> tuple[int, int]:
    """Rank and size of the MPI job this process is part of; (0, 1) outside of one."""
    for rank, size in (
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        ("PMI_RANK", "PMI_SIZE"),
        ("SLURM_PROCID", "SLURM_NTASKS"),
    ):
        if rank in os.environ and size in os.environ:
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1


def _in_domain(class_name: str, domain: str) -> tuple[str, ...]:
    """Devices of a class that are declared in a domain, in natural order."""
    database = tango.Util.instance().get_database()
    names = [str(name) for name in database.get_device_name("*", class_name)]
    inside = {name for name in names if domain_of(name).lower() == domain.lower()}
    return tuple(sorted(inside, key=natural_key))


def _property(device: str, name: str) -> tuple[str, ...]:
    database = tango.Util.instance().get_database()
    return tuple(str(value) for value in database.get_device_property(device, name)[name])
