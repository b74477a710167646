"""Is this computer fit to receive a detector: settings, cards, cores, memory, disks.

Reads /proc and /sys and asks the kernel; no other program, and no privilege is needed.
"""

from lima2_core.host.examine import examine, warnings
from lima2_core.host.finding import Finding, Verdict, worst
from lima2_core.host.kernel import interface_of
from lima2_core.host.needs import HostNeeds
from lima2_core.host.text import cpus
from lima2_core.host.tree import Host

__all__ = [
    "Finding",
    "Host",
    "HostNeeds",
    "Verdict",
    "cpus",
    "examine",
    "interface_of",
    "warnings",
    "worst",
]
