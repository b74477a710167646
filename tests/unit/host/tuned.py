"""A made-up computer in which everything is as it should be: tests spoil one thing at a time."""

import errno
import os

from lima2_core.host.kernel import Kernel, Rings
from lima2_core.host.needs import HostNeeds
from lima2_core.host.tree import Host

ALL_CAPABILITIES = "CapEff:\t000001ffffffffff"
NO_CAPABILITIES = "CapEff:\t0000000000000000"
CARD = "sys/devices/pci0000:3b/0000:3b:00.0"
IRQS = {100: "mlx5_async0@pci", 101: "mlx5_comp0@pci", 102: "mlx5_comp1@pci"}

FILES = {
    "proc/sys/net/core/rmem_max": "1073741824",
    "proc/sys/net/core/netdev_max_backlog": "250000",
    "proc/net/softnet_stat": "000000ff 00000000 00000002\n000000ff 00000000 00000000",
    "proc/net/snmp": "Ip: InReceives\nIp: 7\nUdp: InDatagrams InErrors RcvbufErrors\nUdp: 90 0 0",
    "proc/self/status": f"Name:\tpython\n{NO_CAPABILITIES}",
    "proc/self/limits": "Limit                     Soft Limit    Hard Limit    Units\n"
    "Max locked memory         unlimited     unlimited     bytes\n"
    "Max realtime priority     99            99",
    "proc/meminfo": "HugePages_Total: 4\nHugePages_Free: 4\nHugepagesize: 2048 kB",
    "sys/kernel/mm/transparent_hugepage/shmem_enabled": "always [within_size] advise never",
    "sys/devices/system/cpu/online": "0-7",
    "sys/devices/system/node/node0/cpulist": "0-3",
    "sys/devices/system/node/node1/cpulist": "4-7",
    **{
        f"sys/devices/system/cpu/cpufreq/policy{n}/scaling_governor": "performance"
        for n in range(8)
    },
    # A card on the second processor, with two queues, and a VLAN on it.
    f"{CARD}/class": "0x020000",
    f"{CARD}/vendor": "0x15b3",
    f"{CARD}/numa_node": "1",
    f"{CARD}/net/eth2/operstate": "up",
    f"{CARD}/net/eth2/mtu": "9000",
    f"{CARD}/net/eth2/speed": "100000",
    f"{CARD}/net/eth2/queues/rx-0/rps_cpus": "00000000,00000000",
    f"{CARD}/net/eth2/queues/rx-1/rps_cpus": "00000000,00000000",
    "sys/devices/virtual/net/eth2.7/operstate": "up",
    "sys/devices/virtual/net/eth2.7/mtu": "9000",
    "sys/devices/virtual/net/lo/operstate": "unknown",
    "sys/devices/virtual/net/lo/mtu": "65536",
    **{f"{CARD}/msi_irqs/{n}": "msix" for n in (*IRQS, 103)},
    **{f"proc/irq/{n}/{name}/.": "" for n, name in IRQS.items()},
    **{f"proc/irq/{n}/smp_affinity_list": "4-7" for n in (*IRQS, 103)},
    "proc/irq/101/effective_affinity_list": "4",
    "proc/irq/102/effective_affinity_list": "5",
    # A GPU beside it, and the screen of the remote console.
    "sys/devices/pci0000:40/0000:41:00.0/class": "0x030200",
    "sys/devices/pci0000:40/0000:41:00.0/vendor": "0x10de",
    "sys/devices/pci0000:40/0000:41:00.0/numa_node": "1",
    "sys/devices/pci0000:00/0000:02:00.0/class": "0x030000",
    "sys/devices/pci0000:00/0000:02:00.0/vendor": "0x1a03",
    "sys/devices/pci0000:00/0000:02:00.0/numa_node": "0",
    "dev/shm/.": "",
}

LINKS = {
    "sys/class/net/eth2": f"{CARD}/net/eth2",
    "sys/class/net/eth2.7": "sys/devices/virtual/net/eth2.7",
    "sys/class/net/lo": "sys/devices/virtual/net/lo",
    f"{CARD}/net/eth2/device": CARD,
    "sys/devices/virtual/net/eth2.7/lower_eth2": f"{CARD}/net/eth2",
    "sys/bus/pci/devices/0000:3b:00.0": CARD,
    "sys/bus/pci/devices/0000:41:00.0": "sys/devices/pci0000:40/0000:41:00.0",
    "sys/bus/pci/devices/0000:02:00.0": "sys/devices/pci0000:00/0000:02:00.0",
}

NEEDS = HostNeeds(
    interfaces=("eth2.7",),
    addresses=("10.1.1.2",),
    realtime=90,
    cpus=(6, 7),
    locked_bytes=2**30,
    huge_bytes=8 * 2**20,
    shared_bytes=1,
)


class StillKernel(Kernel):
    """Tells what a test wants."""

    def __init__(self, rings=None, queues=None, addresses=None):
        self.told = {"rings": rings, "queues": queues, "addresses": addresses}

    def _tell(self, name):
        if self.told[name] is None:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return self.told[name]

    def rings(self, interface):
        return self._tell("rings")

    def most_queues(self, interface):
        return self._tell("queues")

    def addresses(self):
        return self._tell("addresses")


def tuned_kernel():
    return StillKernel(Rings(4096, 8192), 63, {"127.0.0.1": "lo", "10.1.1.2": "eth2"})


class Computer:
    """A tree under a folder of the test."""

    def __init__(self, root):
        self.root = root
        self.kernel = tuned_kernel()
        for path, text in FILES.items():
            self.write(path, text)
        for path, target in LINKS.items():
            self.link(path, target)

    @property
    def host(self):
        return Host(self.root, self.kernel)

    def write(self, path, text):
        """Write a file; one named ``.`` stands for its folder."""
        place = self.root / path
        folder = place if path.endswith("/.") else place.parent
        folder.mkdir(parents=True, exist_ok=True)
        if folder is not place:
            place.write_text(f"{text}\n")

    def link(self, path, target):
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(os.path.relpath(self.root / target, place.parent))

    def forbid(self, capability_line=NO_CAPABILITIES, **limits):
        """Leave the process no right but these limits."""
        lines = [f"{name.replace('_', ' '):<25} {value} {value}" for name, value in limits.items()]
        self.write("proc/self/limits", "\n".join(lines))
        self.write("proc/self/status", capability_line)
