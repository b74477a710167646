"""The state tables."""

from __future__ import annotations

from typing import Any

from tables.markdown import table


def states_table(module: Any) -> str:
    """What each event leads to in each state, and (in brackets) what has to be done."""
    states = list(dict.fromkeys(state for state, _ in module.TABLE))
    finals = [after for after, _ in module.TABLE.values() if after not in states]
    rows = []
    for state in [*states, *dict.fromkeys(finals)]:
        cells = []
        for event in module.Event:
            entry = module.TABLE.get((state, event))
            if entry is None:
                cells.append("")
                continue
            after, effects = entry
            does = "; ".join(effect.value for effect in effects)
            cells.append(("=" if after is state else after.name) + (f" ({does})" if does else ""))
        rows.append((f"**{state.name}**", *cells))
    return table(("", *(event.value for event in module.Event)), rows)
