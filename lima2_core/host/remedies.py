"""Commands that mend something now, and again after each start of the computer."""

from __future__ import annotations

import os
import pwd

SYSCTL_FILE = "/etc/sysctl.d/90-lima2.conf"
TMPFILES_FILE = "/etc/tmpfiles.d/lima2.conf"
LIMITS_FILE = "/etc/security/limits.d/lima2.conf"


def sysctl(name: str, value: int) -> str:
    """Set a variable of the kernel."""
    return f"sysctl -w {name}={value}\necho '{name} = {value}' >> {SYSCTL_FILE}"


def write_all(files: str, value: str) -> str:
    """Write a word to files of /sys, given as a pattern of the shell."""
    return f"echo {value} | tee {files}\necho 'w {files} - - - - {value}' >> {TMPFILES_FILE}"


def connection(interface: str, setting: str, value: int) -> str:
    """Keep a setting of an interface with NetworkManager."""
    name = f'"$(nmcli -g GENERAL.CONNECTION device show {interface})"'
    return f"nmcli connection modify {name} {setting} {value}"


def limit(item: str, value: int, unit: str) -> str:
    """Raise a limit, for logins and for servers that systemd starts."""
    return (
        f"echo '{user()} - {item} {value}' >> {LIMITS_FILE}\n"
        f"systemctl edit lima2@  # and there: [Service] Limit{item.upper()}={value}{unit}"
    )


def user() -> str:
    """Name of the user of this process; the number where there is none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
