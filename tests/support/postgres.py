"""A PostgreSQL server of the tests' own, from Debian's package: started, stopped, started again."""

import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import sqlalchemy


def _programs() -> Path | None:
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb")) or [shutil.which("initdb")]  # noqa: PTH207
    return Path(found[-1]).parent if found[-1] else None


def _user() -> str | None:
    """Return whom the server runs as: it refuses to be root."""
    if os.getuid():
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    return None


def why_not() -> str | None:
    """Return why there can be no server, or None."""
    if _programs() is None:
        return "PostgreSQL's server programs are missing (Debian: apt-get install postgresql)"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is missing (pip install psycopg[binary])"
    return None


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


class Server:
    """A server with one database a test; its files are removed when it is closed."""

    def __init__(self) -> None:
        programs = _programs()
        assert programs is not None
        self.programs, self.port = programs, free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="trackdl-postgres-"))
        self.count = 0
        if _user():
            shutil.chown(self.folder, _user())
        self._call("initdb", "-D", "data", "-U", "trackdl", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        done = subprocess.run(
            command, cwd=self.folder, user=_user(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c max_connections=150 -c fsync=off"
        # A pipe to pg_ctl would stay open in the server.
        command = [str(self.programs / "pg_ctl"), "-D", "data", "-l", "log", "-w", "-o", options, "start"]
        nowhere = subprocess.DEVNULL
        subprocess.run(command, cwd=self.folder, user=_user(), stdout=nowhere, stderr=nowhere, check=True)

    def stop(self, mode: str = "immediate") -> None:
        """Stop at once, as a crash would; what was committed stays."""
        self._call("pg_ctl", "-D", "data", "-m", mode, "-w", "stop")

    def database(self, template: str = "template1") -> str:
        """Make a database; return its address."""
        self.count += 1
        name = f"test{self.count}"
        engine = sqlalchemy.create_engine(
            self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
        )
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://trackdl@127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)
