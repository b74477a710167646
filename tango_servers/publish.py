"""What a server writes into the Tango database before it answers, and what it takes out.

It writes schemas and versions, and deletes the devices of runs that are long gone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import tango

from lima2_core.camera.params import AcquisitionParams
from lima2_core.flow.plugin import PipelinePlugin
from lima2_core.schema import ParamsModel, schema_text
from tango_servers.front_params import front_params, front_schema
from tango_servers.names import (
    ACQ_PARAMS,
    FRONT_PARAMS,
    PROC_PARAMS,
    SCHEMA,
    VERSION,
    is_run_device,
)

log = logging.getLogger(__name__)


def publish_camera(database: tango.Database, class_name: str, params: type[ParamsModel]) -> None:
    """Write the schema of the acquisition parameters of a control or receiver class."""
    _put_schema(database, class_name, ACQ_PARAMS, params)


def publish_pipelines(database: tango.Database, plugins: Iterable[PipelinePlugin]) -> None:
    """Write schema and version of each pipeline."""
    for plugin in plugins:
        _put_schema(database, plugin.class_name, PROC_PARAMS, plugin.params)
        database.put_class_property(plugin.class_name, {VERSION: [plugin.version]})


def publish_front(
    database: tango.Database,
    class_name: str,
    params: type[AcquisitionParams],
    plugins: Sequence[PipelinePlugin],
) -> None:
    """Write the schema of the parameters of the whole system, of a control class."""
    schema = {FRONT_PARAMS: {SCHEMA: [front_schema(front_params(params), plugins)]}}
    database.put_class_attribute_property(class_name, schema)


def _put_schema(
    database: tango.Database, class_name: str, attribute: str, params: type[ParamsModel]
) -> None:
    schema = {attribute: {SCHEMA: [schema_text(params)]}}
    database.put_class_attribute_property(class_name, schema)


def purge_run_devices(database: tango.Database, server: str) -> int:
    """Delete the devices of runs that an earlier life of ``server`` left in the database.

    Tango would bring them back as empty shells.
    """
    listed = list(database.get_device_class_list(server))
    stale = [name for name in listed[::2] if is_run_device(name)]
    for name in stale:
        database.delete_device(name)
    if stale:
        log.info("deleted %d devices of runs of an earlier life of %s", len(stale), server)
    return len(stale)
