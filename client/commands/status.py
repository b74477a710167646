"""``lima2 status``: what a system does, at a glance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from client.commands.common import command, parser_of, results
from client.errors import NotAvailableError
from client.system import Lima2

_TROUBLED = ("fault", "terminate")
_TRIES = 3
"""A system that changes faster is told as it is then."""


@command
def main(argv: Sequence[str]) -> int:
    """Tell what a system does; exit code 1 if it failed or does not answer."""
    parser = parser_of("status", "State, current run and receivers of a system.")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(argv)
    facts = _facts(Lima2(options.device))
    if options.json:
        print(json.dumps(facts, indent=2))
    else:
        print(f"{facts['state']}: {facts['status']}")
        for name in ("error", "stuck"):
            if facts.get(name) and facts[name] not in facts["status"]:
                print(f"{name}: {facts[name]}")
        if facts.get("run"):
            print(f"run {facts['run']}: {facts['phase']}, {facts['verdict']}")
        for name in ("files", "warnings", "troubles", "receivers"):
            for told in facts.get(name, ()):
                print(f"  {told}" if name in ("files", "receivers") else f"{name}: {told}")
    return 1 if facts["state"] in _TROUBLED else 0


def _facts(lima: Lima2) -> dict[str, Any]:
    """What is true at one time: facts that a change came between are asked for again."""
    for _ in range(_TRIES):
        before = _moment(lima)
        facts = _asked(lima)
        if _moment(lima) == before:
            break
    return facts


def _moment(lima: Lima2) -> tuple[str, ...]:
    """What all facts go with."""
    try:
        run = lima.run()
        return lima.state, run.uuid, run.phase
    except NotAvailableError:
        return (lima.state,)


def _asked(lima: Lima2) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "state": lima.state,
        "status": lima.status,
        "error": lima.error,
        "receivers": list(lima.receivers),
    }
    try:
        run = lima.run()
        facts |= {
            "run": run.uuid,
            "phase": run.phase,
            "verdict": run.verdict,
            "stuck": run.stuck,
            "files": results(run.files),
            "warnings": list(lima.warnings),
            "troubles": list(run.troubles),
        }
    except NotAvailableError:
        facts["run"] = ""  # nothing was prepared, or it is forgotten by now
    return facts
