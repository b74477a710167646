"""The Tango database of the large installations, on a MariaDB server of its own.

Debian's packages ``mariadb-server-core`` and ``tango-db`` carry what it takes. The MariaDB server
and the data folder are private: unix socket only, and the services of the system, if there are
any, are neither used nor disturbed.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from lima2_core.errors import NotAvailableError, StorageError
from tango_servers.local.database import database_answers, refuse_taken
from tango_servers.local.processes import (
    LOOPBACK,
    ChildProcess,
    Surroundings,
    find_program,
    free_port,
    make_folder,
    stop_all,
)

TABLES = Path("/usr/share/dbconfig-common/data/tango-db/install/mysql")
"""Tables, stored procedures and first rows of a Tango database, in SQL."""
SYSTEM_TABLES = tuple(
    Path("/usr/share/mysql", name)
    for name in (
        "mysql_system_tables.sql",
        "mysql_performance_tables.sql",
        "mysql_system_tables_data.sql",
    )
)
SERVER_FOLDERS = (Path("/usr/lib/tango"), Path("/usr/local/bin"), Path("/usr/bin"))
"""Where DataBaseds may be."""
SQL_TIMEOUT_S = 60.0


def missing() -> tuple[str, ...]:
    """What is not installed: sentences for people, none if `MariaDbDatabase` can run."""
    wanted = []
    if shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
        wanted.append("the program mariadbd (Debian package mariadb-server-core)")
    elif not all(file.is_file() for file in SYSTEM_TABLES):
        wanted.append(f"the files {SYSTEM_TABLES[0].parent}/*.sql (mariadb-server-core)")
    if not any((folder / "DataBaseds").is_file() for folder in SERVER_FOLDERS):
        wanted.append("the program DataBaseds (Debian package tango-db)")
    if not TABLES.is_file():
        wanted.append(f"the file {TABLES} (Debian package tango-db)")
    return tuple(wanted)


def available() -> bool:
    """Whether `MariaDbDatabase` can run here; `missing` tells what it lacks."""
    return not missing()


class MariaDbDatabase(Surroundings):
    """An empty Tango database on MariaDB; what is written stays as long as its folder.

    Args:
        folder: takes the data and the logs.
    """

    def __init__(
        self, folder: Path, *, port: int | None = None, ready_timeout_s: float = 30.0
    ) -> None:
        self.port = free_port() if port is None else port
        self._folder = folder
        self._ready_timeout_s = ready_timeout_s
        self._children: list[ChildProcess] = []
        self._socket_folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def tango_host(self) -> str:
        """What TANGO_HOST would be."""
        return f"{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Make the tables if they are not there, start both servers and wait until they answer.

        Raises:
            NotAvailableError: something is not installed.
            StorageError: the tables cannot be made.
            ChildError, BusyError: a server does not come up.
        """
        if wanted := missing():
            raise NotAvailableError(f"The Tango database on MariaDB lacks {', '.join(wanted)}")
        self.stop()
        refuse_taken(self.port)
        if not (self._folder / "data").is_dir():
            self._make_tables()
        # Of its own and short: the path of a socket has 107 characters at most.
        self._socket_folder = tempfile.TemporaryDirectory(prefix="lima2-")
        try:
            self._start_mariadb(Path(self._socket_folder.name, "mariadb.sock"))
            self._start_tango(Path(self._socket_folder.name))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop both servers."""
        children, self._children = self._children, []
        for child in reversed(children):
            stop_all((child,), timeout_s=10.0)
        if self._socket_folder is not None:
            self._socket_folder.cleanup()
            self._socket_folder = None

    def _make_tables(self) -> None:
        """Let MariaDB run the SQL of both packages into a new data folder, without a server."""
        unfinished = make_folder(self._folder / "data.unfinished")
        log_file = self._folder / "mariadb-tables.log"
        with log_file.open("ab") as log:
            done = subprocess.run(
                (*_mariadbd(unfinished), "--bootstrap"),
                input=_all_sql().encode(),
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=SQL_TIMEOUT_S,
                check=False,
            )
        if done.returncode != 0:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise StorageError(
                f"MariaDB could not make the tables of the Tango database, see {log_file}",
                file=str(log_file),
            )
        unfinished.rename(self._folder / "data")

    def _start_mariadb(self, socket_file: Path) -> None:
        child = ChildProcess(
            "the MariaDB server",
            (
                *_mariadbd(self._folder / "data"),
                "--skip-networking",
                f"--socket={socket_file}",
                f"--pid-file={socket_file.with_suffix('.pid')}",
            ),
            log_file=self._folder / "mariadb.log",
        )
        child.start()
        self._children.append(child)
        child.wait_ready(lambda: _listens(socket_file), self._ready_timeout_s)

    def _start_tango(self, home: Path) -> None:
        # The client library takes the place of the socket from files only; this is the last
        # that it reads.
        (home / ".my.cnf").write_text(f"[client]\nsocket={home / 'mariadb.sock'}\n", "ascii")
        program = next(
            file for folder in SERVER_FOLDERS if (file := folder / "DataBaseds").is_file()
        )
        child = ChildProcess(
            "the Tango database server",
            (str(program), "2", "-ORBendPoint", f"giop:tcp:{self.tango_host}"),
            log_file=self._folder / "databaseds.log",
            environ={
                "HOME": str(home),
                "MYSQL_DATABASE": "tango",
                "MYSQL_HOST": "localhost",
                "MYSQL_USER": "tango",
                "MYSQL_PASSWORD": "",
                "TANGO_HOST": self.tango_host,
            },
        )
        child.start()
        self._children.append(child)
        child.wait_ready(lambda: database_answers(self.port), self._ready_timeout_s)


def _mariadbd(data: Path) -> tuple[str, ...]:
    """Command for a small private server: who reaches its socket needs no password."""
    return (
        find_program("mariadbd"),
        "--no-defaults",
        *(("--user=root",) if os.geteuid() == 0 else ()),
        f"--datadir={data}",
        "--skip-grant-tables",
        # The tables of Tango are MyISAM; InnoDB alone would take 100 MB and its time.
        "--skip-innodb",
        "--default-storage-engine=MyISAM",
        "--silent-startup",
    )


def _all_sql() -> str:
    system = "".join(file.read_text(encoding="utf-8") for file in SYSTEM_TABLES)
    return (
        "CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n"
        f"{system}\nCREATE DATABASE tango;\nUSE tango;\n{_with_sources(TABLES)}"
    )


def _with_sources(file: Path) -> str:
    """An SQL file with those in it that it asks the client to read."""
    text = file.read_text(encoding="utf-8")
    return re.sub(
        r"^source (\S+)$", lambda line: _with_sources(Path(line[1])), text, flags=re.MULTILINE
    )


def _listens(socket_file: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as trial:
        return trial.connect_ex(str(socket_file)) == 0
