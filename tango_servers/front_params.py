"""Everything that a client asks of an acquisition of the whole system: one model, many doors.

The tree has the groups ``acquisition`` (of the camera), ``processing`` (of the pipeline that its
``class_name`` names), ``policy``, ``deferred`` and ``metadata``. Everyday parameters are leaves of
it; each door writes through the model, so nothing gets in that was not checked. Types are strict,
as in the client: a text is no number. (The parameters of the contract's own devices are lenient.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import Field, create_model, field_validator

from lima2_core import registry
from lima2_core.camera.params import AcquisitionParams
from lima2_core.errors import ParamError
from lima2_core.flow.plugin import PipelinePlugin
from lima2_core.schema import ParamsModel, json_schema
from lima2_core.service.requested import DEFAULT_PIPELINE
from lima2_core.system.policy import FaultPolicy
from lima2_core.system.run import SystemOrder

PROCESSING = "processing"
CLASS_NAME = "class_name"
STATISTICS = "statistics"
_SAVING_KEY = "filename_prefix"
"""A group of the processing parameters with this key is about files."""


class FrontParams(ParamsModel):
    """Parameters of acquisitions of the whole system; `front_params` adds those of the camera."""

    acquisition: AcquisitionParams = AcquisitionParams()
    """What the detector shall do."""
    processing: dict[str, Any] = Field(default_factory=dict)
    """The pipeline (class_name) and its parameters."""
    policy: FaultPolicy = FaultPolicy()
    """What the run does about faults."""
    deferred: bool = False
    """Whether frames are only collected until processAcq is called, or memory is needed."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    """What the user wants to have with the data: a JSON object."""

    @field_validator("metadata")
    @classmethod
    def _is_strict_json(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(value, allow_nan=False)
        except ValueError as error:
            raise ValueError(f"must be what JSON can hold: {error}") from error
        return value

    @classmethod
    def from_tree(cls, tree: dict[str, Any], where: str = "", *, strict: bool = True) -> Self:
        """Check a tree; what is not given has its default.

        Raises:
            ParamError: a value is refused; the path says where.
            PluginError: the pipeline does not load.
        """
        asked = tree.get(PROCESSING, {})
        if not isinstance(asked, dict):
            raise ParamError(f"expected an object, not {type(asked).__name__}", path=PROCESSING)
        checked = {**tree, PROCESSING: checked_processing(asked, strict=strict)}
        return super().from_tree(checked, where, strict=strict)

    def at(self, path: str) -> Any:
        """The value at a path such as ``acquisition.acq.nb_frames``.

        Raises:
            ParamError: there is no such parameter.
        """
        here: Any = self.to_tree()
        for name in path.split("."):
            if not isinstance(here, dict) or name not in here:
                raise ParamError("there is no such parameter with this pipeline", path=path)
            here = here[name]
        return here

    def changed(self, values: Mapping[str, Any]) -> Self:
        """The same with other values at some paths.

        Raises:
            ParamError: a value is refused, or there is no such parameter.
        """
        tree = self.to_tree()
        for path, value in values.items():
            self.at(path)
            *groups, leaf = path.split(".")
            here = tree
            for name in groups:
                here = here[name]
            here[leaf] = value
        return self.from_tree(tree)

    def with_pipeline(self, class_name: str) -> Self:
        """The same with another pipeline, its defaults, and where files go as before.

        Raises:
            ParamError: no such pipeline.
        """
        if class_name == self.processing[CLASS_NAME]:
            return self
        processing = checked_processing({CLASS_NAME: class_name})
        old, new = saving_group(self.processing), saving_group(processing)
        if old and new:
            kept = {key: self.processing[old][key] for key in processing[new]}
            processing[new] = kept
        return self.from_tree({**self.to_tree(), PROCESSING: processing})

    @property
    def saving_path(self) -> str:
        """Path of the group about the files of processed frames.

        Raises:
            ParamError: this pipeline writes none.
        """
        group = saving_group(self.processing)
        if not group:
            raise ParamError("this pipeline writes no files", path=PROCESSING)
        return f"{PROCESSING}.{group}"

    @property
    def statistics_rois(self) -> list[list[float]]:
        """Regions of the statistics, as `with_statistics_rois` takes them; none if it is off."""
        group = self.processing.get(STATISTICS, {})
        if not group.get("enabled"):
            return []
        rects = [
            [rect[corner][axis] for corner in ("topleft", "dimensions") for axis in ("x", "y")]
            for rect in group["rect_rois"]
        ]
        arcs = [
            [
                arc["center"]["x"],
                arc["center"]["y"],
                *(arc[key] for key in ("r1", "r2", "a1", "a2")),
            ]
            for arc in group["arc_rois"]
        ]
        return rects + arcs

    def with_statistics_rois(self, rois: Any) -> Self:
        """The same with other regions: four numbers are a rectangle, six are an arc.

        Args:
            rois: list of [x, y, width, height] and of [x, y, r1, r2, a1, a2]; empty: none.

        Raises:
            ParamError: something else, or this pipeline has no statistics.
        """
        if STATISTICS not in self.processing:
            raise ParamError("this pipeline has no statistics", path=PROCESSING)
        listed = isinstance(rois, list) and all(isinstance(roi, list) for roi in rois)
        if not listed or any(len(roi) not in (4, 6) for roi in rois):
            raise ParamError(
                "give a list of [x, y, width, height] and of [x, y, r1, r2, a1, a2]",
                path=f"{PROCESSING}.{STATISTICS}",
            )
        path = f"{PROCESSING}.{STATISTICS}"
        return self.changed(
            {
                f"{path}.enabled": bool(rois),
                f"{path}.rect_rois": [_rect(roi) for roi in rois if len(roi) == 4],
                f"{path}.arc_rois": [_arc(roi) for roi in rois if len(roi) == 6],
            }
        )

    def order(self) -> SystemOrder:
        """What the coordinator shall do."""
        tree = self.to_tree()
        return SystemOrder(
            tree["acquisition"], tree[PROCESSING], self.policy, tree["metadata"], self.deferred
        )


def front_params(acquisition: type[AcquisitionParams]) -> type[FrontParams]:
    """The model for a camera."""
    made: type[FrontParams] = create_model(
        "FrontParams",
        __base__=FrontParams,
        acquisition=(acquisition, acquisition()),
    )
    return made


def front_schema(model: type[FrontParams], pipelines: Sequence[PipelinePlugin]) -> str:
    """JSON schema of a model, with one choice of ``processing`` for each pipeline.

    The first is that which is taken where none is named.
    """
    schema = json_schema(model)
    choices = []
    for plugin in sorted(pipelines, key=lambda plugin: plugin.class_name != DEFAULT_PIPELINE):
        choice = json_schema(plugin.params)
        choice.pop("$schema", None)
        choices.append(choice)
    described = schema["properties"][PROCESSING].get("description", "")
    schema["properties"][PROCESSING] = {"description": described, "anyOf": choices}
    return json.dumps(schema, ensure_ascii=True, separators=(",", ":"))


def checked_processing(tree: Mapping[str, Any], *, strict: bool = True) -> dict[str, Any]:
    """Processing parameters with all defaults.

    Raises:
        ParamError: no such pipeline, or a value is refused.
        PluginError: the pipeline does not load.
    """
    name = tree.get(CLASS_NAME, DEFAULT_PIPELINE)
    known = registry.names(registry.PIPELINES)
    if name not in known:
        raise ParamError(
            f"there is no pipeline {name!r}; there are: {', '.join(known)}",
            path=f"{PROCESSING}.{CLASS_NAME}",
        )
    plugin: PipelinePlugin = registry.load(registry.PIPELINES, name)
    return plugin.params.from_tree(dict(tree), PROCESSING, strict=strict).to_tree()


def saving_group(processing: Mapping[str, Any]) -> str:
    """The group about the files of processed frames: the first about files; empty without one."""
    for name, group in processing.items():
        if isinstance(group, Mapping) and _SAVING_KEY in group:
            return name
    return ""


def _rect(numbers: Sequence[Any]) -> dict[str, Any]:
    x, y, width, height = numbers
    return {"topleft": {"x": x, "y": y}, "dimensions": {"x": width, "y": height}}


def _arc(numbers: Sequence[Any]) -> dict[str, Any]:
    x, y, r1, r2, a1, a2 = numbers
    return {"center": {"x": x, "y": y}, "r1": r1, "r2": r2, "a1": a1, "a2": a2}
