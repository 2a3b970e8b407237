"""Every asynchronous test of the stores runs on asyncio; stores on disk are put on a memory disk where there is one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from testbed.plugin import TestServers
from tulbur.stores import migrate

_MEMORY_DISK = Path("/dev/shm")  # noqa: S108 - only speed depends on it


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(dir=_MEMORY_DISK if _MEMORY_DISK.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def migrated(servers: TestServers) -> Callable[[str], str]:
    """The URL of this process's one migrated database on a server, in whatever state the test before has left it."""
    urls: dict[str, str] = {}

    def url(name: str) -> str:
        servers.note(name)
        if name not in urls:
            urls[name] = servers.url(name)
            migrate.up(urls[name])
        return urls[name]

    return url
