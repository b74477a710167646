"""Free UDP ports of this machine."""

import socket
from contextlib import ExitStack


def free_udp_ports(count):
    """Ports that nobody used a moment ago."""
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for _ in range(count)
        ]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def free_udp_addresses(receivers, ports):
    """The property udp_addresses for so many receivers with so many ports each."""
    numbers = iter(free_udp_ports(receivers * ports))
    return ";".join(
        ",".join(f"127.0.0.1:{next(numbers)}" for _ in range(ports)) for _ in range(receivers)
    )
