"""Is this computer fit to receive a detector: settings, cards, cores, memory, disks.

Reads /proc and /sys and asks the kernel; no other program, and no privilege is needed.
"""

from lima2_core.host.examine import examine, warnings
from lima2_core.host.finding import Finding, Verdict, worst
from lima2_core.host.kernel import interface_of
from lima2_core.host.needs import HostNeeds

__all__ = ["Finding", "HostNeeds", "Verdict", "examine", "interface_of", "warnings", "worst"]
