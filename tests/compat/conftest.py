"""The other releases, made once for each process of a test run, and databases that the later one has migrated."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tests.compat import releases
from tests.compat.releases import Release

ACTING = Path(__file__).with_name("acting.py")
MOST_SECONDS = 120
_MEMORY_DISK = Path("/dev/shm")  # noqa: S108 - only speed depends on it

Act = Callable[..., Any]


def act(release: Release, deed: str, *arguments: object) -> Any:
    """What a release does in a process of its own."""
    command = [sys.executable, "-W", "error", str(ACTING), str(release.src), deed, *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(release.src)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=MOST_SECONDS)
    assert done.returncode == 0, f"{release.name}: {deed}: {done.stderr}"
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def disk() -> Iterator[Path]:
    with TemporaryDirectory(dir=_MEMORY_DISK if _MEMORY_DISK.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def this() -> Release:
    return releases.this_release()


@pytest.fixture(scope="session")
def _before(disk: Path) -> Release:
    return releases.release_before(disk / "before")


@pytest.fixture
def before(_before: Release, request: pytest.FixtureRequest) -> Release:
    request.node.user_properties.append(("release before", _before.name))
    return _before


@pytest.fixture(scope="session")
def after(disk: Path) -> Release:
    return releases.release_after(disk / "after")


@pytest.fixture(scope="session")
def template(disk: Path, after: Release) -> Path:
    act(after, "migrate", f"sqlite:///{disk / 'template.db'}")
    return disk / "template.db"


@pytest.fixture
def fresh(database: Callable[[str], str], after: Release, template: Path, tmp_path: Path) -> Callable[[str], str]:
    """`fresh("postgres")` is the URL of an empty database that the release after has migrated."""

    def make(store: str) -> str:
        if store == "sqlite":
            shutil.copy(template, tmp_path / "shop.db")
            return f"sqlite:///{tmp_path / 'shop.db'}"
        url = database(store)
        act(after, "migrate", url)
        return url

    return make
