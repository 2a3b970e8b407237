"""Every asynchronous test of the stores runs on asyncio; stores on disk are put on a memory disk where there is one."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

_MEMORY_DISK = Path("/dev/shm")  # noqa: S108 - only speed depends on it


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(dir=_MEMORY_DISK if _MEMORY_DISK.is_dir() else None) as name:
        yield Path(name)
