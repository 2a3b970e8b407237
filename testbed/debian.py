"""Programs out of Debian's packages, unpacked into `.testbed/`; nothing of the system is changed."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from testbed.binaries import CACHE, Missing, named

# Each may go by several names in several releases; one that exists under none of them is not needed there.
Packages: TypeAlias = tuple[tuple[str, ...], ...]

MARIADB: Packages = (
    ("mariadb-server-core",),
    ("libaio1", "libaio1t64"),
    ("libnuma1",),
    ("liburing2",),
    ("libpcre2-8-0",),
)
GALERA: Packages = (("galera-4",),)
WRK: Packages = (("wrk",), ("libluajit2-5.1-2", "libluajit-5.1-2"), ("libssl3", "libssl3t64"))


def galera() -> Path:
    """The folder under which Galera's `usr/lib/libgalera_smm.so` lies, for the MariaDB of the same release.

    Raises:
        Missing: it could not be downloaded.
    """
    return _got("galera", GALERA, "usr/lib/libgalera_smm.so")


def mariadb() -> Path:
    """The folder under which MariaDB's `usr/sbin/mariadbd` lies.

    Raises:
        Missing: it could not be downloaded.
    """
    return _got("mariadb", MARIADB, "usr/sbin/mariadbd")


def wrk() -> tuple[Path, dict[str, str]]:
    """wrk, which makes load over HTTP, and the environment it runs in; the one that WRK names is taken as it is.

    Raises:
        Missing: it could not be downloaded.
    """
    program = named("WRK")
    if program is not None:
        return program, dict(os.environ)
    root = _got("wrk", WRK, "usr/bin/wrk")
    libraries = root / f"usr/lib/{platform.machine()}-linux-gnu"
    return root / "usr/bin/wrk", {**os.environ, "LD_LIBRARY_PATH": str(libraries)}


def _got(name: str, packages: Packages, wanted: str) -> Path:
    """A folder with the packages in it, of which `wanted` is a file that must be there."""
    root = CACHE / name
    with _one_at_a_time(CACHE / f"{name}.lock"):
        if not (root / wanted).exists():
            print(f"getting {packages[0][0]} (once) …", file=sys.stderr)
            _unpack(packages, root)
    return root


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unpack(packages: Packages, root: Path) -> None:
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise Missing(
            f"there is no apt-get here to download {packages[0][0]} with; install it, and name it in the environment: "
            "MARIADBD for MariaDB's server, WRK for wrk"
        )
    with tempfile.TemporaryDirectory(dir=root.parent, prefix="apt-") as name:
        folder = Path(name)
        debs = _downloaded(packages, folder)
        unpacked = folder / "root"
        for deb in debs:
            subprocess.run(["dpkg", "-x", deb, unpacked], check=True)  # noqa: S603, S607 - from where PATH says
        # Everything at once, so that what is there is whole.
        shutil.rmtree(root, ignore_errors=True)
        unpacked.rename(root)
        root.chmod(0o755)


def _downloaded(packages: Packages, folder: Path) -> list[Path]:
    """Packages from the system's own sources, with its lists where they are good, else with lists of our own."""
    for part in ("debs", "state/lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    cache = ["-o", f"Dir::Cache={folder / 'cache'}", "-o", "APT::Sandbox::User=", "-o", "Acquire::http::Timeout=20"]
    state = ["-o", f"Dir::State={folder / 'state'}", "-o", "Dir::State::status=/var/lib/dpkg/status"]
    for options in (cache, [*cache, *state]):
        if options is not cache:
            # A source that does not answer is not fatal: another may have what is needed.
            _apt(folder, *options, "update")
        failed = [names for names in packages if not any(_apt(folder, *options, "download", name) for name in names)]
        if packages[0] not in failed:
            return sorted((folder / "debs").glob("*.deb"))
    raise Missing(f"apt-get could not download {packages[0][0]}; see .testbed/apt.log")


def _apt(folder: Path, *arguments: str) -> bool:
    with (CACHE / "apt.log").open("ab") as log:
        done = subprocess.run(  # noqa: S603 - apt-get with our own options
            ["apt-get", "--quiet", *arguments],  # noqa: S607 - from where PATH says
            cwd=folder / "debs",
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
        )
    return done.returncode == 0
