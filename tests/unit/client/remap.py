"""Changes what the virtual datasets of a master lead to, as a fault would."""

from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p

from tests.unit.processing.master_parts import DATA


@dataclass(frozen=True)
class Mapping:
    """One mapping of a dataset."""

    frame: int
    target: Any
    file: str
    dataset: str
    source: Any

    def to(self, other):
        """The same part of the master, read from where ``other`` leads to."""
        return replace(other, frame=self.frame, target=self.target)


def remap(path, change, name=DATA):
    """Make ``change`` of the mappings of a dataset, a list in the order of frames."""
    with h5py.File(path, "r+") as file:
        old = file[name]
        mappings = [
            Mapping(
                int(one.vspace.get_regular_hyperslab()[0][0]),
                one.vspace,
                one.file_name,
                one.dset_name,
                one.src_space,
            )
            for one in old.virtual_sources()
        ]
        properties = h5p.create(h5p.DATASET_CREATE)
        properties.set_fill_value(np.full((), old.fillvalue, old.dtype))
        for one in change(sorted(mappings, key=lambda one: one.frame)):
            properties.set_virtual(one.target, one.file.encode(), one.dataset.encode(), one.source)
        attrs, kind, space = dict(old.attrs), old.id.get_type(), old.id.get_space()
        del file[name]
        h5d.create(file.id, name.encode(), kind, space, properties)
        file[name].attrs.update(attrs)


def swapped(a, b):
    """Two mappings read from where the other one did."""

    def change(mappings):
        found = list(mappings)
        found[a], found[b] = mappings[a].to(mappings[b]), mappings[b].to(mappings[a])
        return found

    return change


def copied(to, source):
    """One mapping reads from where another one does."""

    def change(mappings):
        found = list(mappings)
        found[to] = mappings[to].to(mappings[source])
        return found

    return change
