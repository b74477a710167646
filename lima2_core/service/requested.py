"""What clients ask a receiver for, until the next Prepare takes it."""

from __future__ import annotations

from lima2_core import registry
from lima2_core.camera.params import AcquisitionParams
from lima2_core.errors import ParamError
from lima2_core.flow.plugin import PipelinePlugin
from lima2_core.schema import ParamsModel, json_tree

DEFAULT_PIPELINE = "LimaProcessingLegacy"


class Requested:
    """Acquisition and processing parameters, checked as they come.

    Threads: one writer at a time.
    """

    def __init__(self, model: type[AcquisitionParams]) -> None:
        self._model = model
        self.acquisition: AcquisitionParams = model()
        self._processing: tuple[PipelinePlugin, ParamsModel] | None = None

    @property
    def processing(self) -> tuple[PipelinePlugin, ParamsModel]:
        """The pipeline and its parameters; the classic one until something else is asked for.

        Raises:
            PluginError: it does not load.
        """
        if self._processing is None:
            plugin: PipelinePlugin = registry.load(registry.PIPELINES, DEFAULT_PIPELINE)
            self._processing = plugin, plugin.params()
        return self._processing

    def ask_acquisition(self, text: str) -> None:
        """Take acquisition parameters.

        Raises:
            ParamError: refused; those before stay.
        """
        self.acquisition = self._model.from_json(text)

    def ask_processing(self, text: str) -> None:
        """Take processing parameters; ``class_name`` says of which pipeline.

        Raises:
            ParamError: refused; those before stay.
        """
        name = json_tree(text).get("class_name", DEFAULT_PIPELINE)
        pipelines = registry.names(registry.PIPELINES)
        if name not in pipelines:
            raise ParamError(
                f"no pipeline {name!r} is installed; there are {', '.join(pipelines)}",
                path="class_name",
            )
        plugin: PipelinePlugin = registry.load(registry.PIPELINES, name)
        self._processing = plugin, plugin.params.from_json(text)
