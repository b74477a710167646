"""Paths of parameters as clients of the whole system know them.

Control and receivers name a parameter within the tree that they were given, such as
``acq.nb_frames``; the tree of the whole system has these trees as groups.
"""

from __future__ import annotations

from lima2_core.errors import ParamError
from lima2_core.system.ports import RunOrder

ACQUISITION, PROCESSING = "acquisition", "processing"


def below(group: str, error: ParamError) -> ParamError:
    """The same error with the whole path of a parameter of ``group``."""
    path = f"{group}.{error.path}" if error.path else group
    details = {key: value for key, value in error.details.items() if key != "path"}
    sentence = error.message.removeprefix(f"{error.path}: ")
    return ParamError(sentence, path=path, **details)


def of_order(order: RunOrder, error: ParamError) -> ParamError:
    """The error of a receiver with a whole path, where the path begins in one of its trees."""
    first = error.path.partition(".")[0]
    for group, tree in ((PROCESSING, order.processing), (ACQUISITION, order.acquisition)):
        if first in tree:
            return below(group, error)
    return error
