"""``lima2 params``: the parameters of a system, with what is known about each."""

from __future__ import annotations

import json
from collections.abc import Sequence

from client.commands.common import command, parser_of
from client.params import Parameters
from client.schema import Leaf
from client.system import Lima2


@command
def main(argv: Sequence[str]) -> int:
    """Show the parameters of a system: values, units, ranges, meaning."""
    parser = parser_of("params", "The parameters of the next acquisition, as the server has them.")
    parser.add_argument("path", nargs="?", metavar="PATH", help="one parameter, or one group")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON, for `acquire --params`")
    form.add_argument("--schema", action="store_true", help="the JSON schema of the server")
    options = parser.parse_args(argv)
    lima = Lima2(options.device)
    if options.schema:
        print(json.dumps(json.loads(lima.schema), indent=2))
        return 0
    params = lima.params
    found = params[options.path] if options.path else params
    if isinstance(found, Parameters):
        print(found.to_json(indent=2) if options.json else repr(found))
    elif options.json:
        print(json.dumps(params.plain(options.path)))
    else:
        leaf = params.node(options.path)
        print(f"{options.path} = {json.dumps(params.plain(options.path))}")
        if isinstance(leaf, Leaf):
            print(leaf.text)
    return 0
