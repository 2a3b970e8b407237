"""The spool's files: durable before they count, in order, bounded, and whatever else lies there is set aside."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tulbur import spool as spool_module
from tulbur.errors import SettingsError, SpoolUnavailable, StoreUnavailable
from tulbur.spool import FileSpool, files

pytestmark = pytest.mark.anyio

KEYS = ("a-key-only-for-tests-0123456789abcdef",)
OTHER = ("another-key-for-tests-0123456789abcde",)
AT = 1_790_000_000_000_000


@dataclass
class Told:
    what: list[str] = field(default_factory=list)
    waiting: int = -1
    names: list[str] = field(default_factory=list)

    def __call__(self, what: str, waiting: int, name: str) -> None:
        self.what.append(what)
        self.waiting = waiting
        self.names += [name] if name else []


@contextlib.asynccontextmanager
async def started(folder: Path, keys: tuple[str, ...] = KEYS, **options: Any) -> AsyncIterator[FileSpool]:
    spool = FileSpool(folder, keys, **options)
    await spool.start()
    try:
        yield spool
    finally:
        await spool.stop()


def paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.hint"))


async def kept(spool: FileSpool) -> list[tuple[str, str]]:
    return [(one.session_id, one.payment_id) for one in await spool.waiting(100)]


async def test_what_is_kept_waits_in_order_for_any_process(folder: Path) -> None:
    told = Told()
    async with started(folder, on_change=told) as spool:
        for at, session_id in ((AT + 2, "third"), (AT, "first"), (AT + 1, "second")):
            await spool.keep(session_id, "p1", at, "digest")
        assert told.waiting == 3
    async with started(folder) as other:
        found = await other.waiting(100)
        assert [one.session_id for one in found] == ["first", "second", "third"]
        assert {(one.payment_id, one.token_digest) for one in found} == {("p1", "digest")}
        assert [one.received_at for one in found] == [AT, AT + 1, AT + 2]
        assert [one.session_id for one in await other.waiting(1, {found[0].name})] == ["second"]
        assert await other.done(found[0].name)
        assert not await other.done(found[0].name), "somebody else was faster"
        assert len(await other.waiting(100)) == 2


async def test_only_its_owner_may_look(folder: Path) -> None:
    async with started(folder) as spool:
        await spool.keep("s1", "p1", AT)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]


@pytest.mark.parametrize("session_id", ["s 1", 'é/\x01"\\', "\ud800", "x" * 100, ""])
async def test_any_id_comes_back_as_it_was(folder: Path, session_id: str) -> None:
    async with started(folder) as spool:
        await spool.keep(session_id, "", AT)
        assert await kept(spool) == [(session_id, "")]
        with pytest.raises(SpoolUnavailable, match="too long"):
            await spool.keep("x" * 4096, "", AT)


# --- what is none of ours --------------------------------------------------------------------------------------------


async def test_a_file_torn_at_any_byte_is_set_aside_and_told(folder: Path) -> None:
    told = Told()
    async with started(folder, on_change=told) as spool:
        await spool.keep("s1", "p1", AT)
        (path,) = paths(folder)
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            assert await kept(spool) == [], length
            aside = path.with_name(f"{path.name}.bad")
            assert aside.read_bytes() == whole[:length]
            aside.unlink()
        assert told.names == [path.name] * len(whole)
        assert told.waiting == 0
        path.write_bytes(whole)
        assert await kept(spool) == [("s1", "p1")]


async def test_a_file_with_any_byte_changed_is_set_aside(folder: Path) -> None:
    async with started(folder) as spool:
        await spool.keep("s1", "p1", AT)
        (path,) = paths(folder)
        whole = path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            assert await kept(spool) == [], at
            path.with_name(f"{path.name}.bad").unlink()


def _folder_like(path: Path) -> None:
    path.mkdir()


def _link(path: Path) -> None:
    path.symlink_to("/dev/zero")


FOREIGN = {
    "empty": lambda path: path.write_bytes(b""),
    "huge": lambda path: path.write_bytes(b"x" * 1_000_000),
    "nested": lambda path: path.write_bytes(b'{"v":' + b"[" * 4000),
    "a pipe": os.mkfifo,
    "a folder": _folder_like,
    "a link": _link,
}


@pytest.mark.parametrize("kind", FOREIGN)
async def test_what_somebody_put_there_blocks_nobody(folder: Path, kind: str) -> None:
    async with started(folder) as spool:
        await spool.keep("s1", "p1", AT + 5)
        for name in (f"{AT:016d}-{'0' * 16}.hint", "000.hint", "zzz.hint"):
            FOREIGN[kind](folder / name)  # type: ignore[no-untyped-call]
        (folder / "README").write_text("not ours to move")
        async with asyncio.timeout(5):
            assert await kept(spool) == [("s1", "p1")]
        assert len(list(folder.glob("*.bad"))) == 3
        assert (folder / "README").exists()
        assert await kept(spool) == [("s1", "p1")]


async def test_a_copy_under_another_name_is_none_of_ours(folder: Path) -> None:
    async with started(folder) as spool:
        await spool.keep("s1", "p1", AT)
        (path,) = paths(folder)
        path.with_name(f"{AT + 1:016d}-{'a' * 16}.hint").write_bytes(path.read_bytes())
        assert await kept(spool) == [("s1", "p1")]
        assert len(paths(folder)) == 1


async def test_keys_are_rotated_and_what_was_set_aside_comes_back(folder: Path) -> None:
    async with started(folder) as spool:
        await spool.keep("s1", "p1", AT)
    async with started(folder, OTHER) as spool:
        assert await kept(spool) == []
    async with started(folder, OTHER + KEYS) as spool:
        assert await kept(spool) == [("s1", "p1")]


async def test_what_a_later_release_wrote_is_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with started(folder) as spool:
        with monkeypatch.context() as later:
            later.setattr("tulbur.spool.sealing._VERSION", 2)
            await spool.keep("s1", "p1", AT)
        assert await kept(spool) == []
        assert len(paths(folder)) == 1


async def test_what_a_kill_left_is_cleaned_up_but_no_live_file(folder: Path) -> None:
    async with started(folder) as spool:
        old, live = folder / ".old.hint.tmp", folder / ".live.hint.tmp"
        for path in (old, live):
            path.write_bytes(b'{"v":1')
        past = old.stat().st_mtime - files.LEFTOVER_SECONDS - 1
        os.utime(old, (past, past))
        assert await kept(spool) == []
        assert (old.exists(), live.exists()) == (False, True)


# --- bounds and failures ---------------------------------------------------------------------------------------------


async def test_a_full_spool_takes_no_more_until_there_is_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "RECOUNT_SECONDS", 0)
    async with started(folder, most=3) as spool, started(folder, most=3) as other:
        for number in range(3):
            await spool.keep("s1", f"p{number}", AT)
        for full in (spool, other):
            await full.waiting(1)
            assert not await full.ping()
            with pytest.raises(SpoolUnavailable, match="full"):
                await full.keep("s1", "p4", AT)
        assert len(paths(folder)) == 3
        await other.done(paths(folder)[0].name)
        await spool.keep("s1", "p4", AT)


async def test_a_process_counts_what_the_others_add(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "RECOUNT", 2)
    async with started(folder, most=6) as spool, started(folder, most=6) as other:
        refused = 0
        for number in range(12):
            with contextlib.suppress(SpoolUnavailable):
                await (spool, other)[number % 2].keep("s1", f"p{number}", AT)
                continue
            refused += 1
        assert 6 <= len(paths(folder)) <= 8
        assert refused == 12 - len(paths(folder))


async def test_many_at_once_are_all_kept_or_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "MOST_WRITING", 20)
    told = Told()
    async with started(folder, on_change=told) as spool:
        answers = await asyncio.gather(*(spool.keep("s", f"p{n}", AT) for n in range(60)), return_exceptions=True)
        assert all(answer is None or isinstance(answer, SpoolUnavailable) for answer in answers)
        assert answers.count(None) == len(paths(folder)) == 20
        assert (told.what.count("kept"), told.what.count("failed"), told.waiting) == (20, 40, 20)


async def test_without_its_directory_nothing_is_kept(folder: Path) -> None:
    async with started(folder) as spool:
        folder.rename(folder.with_name("moved"))
        assert not await spool.ping()
        with pytest.raises(StoreUnavailable):
            await spool.keep("s1", "p1", AT)
        with pytest.raises(StoreUnavailable):
            await spool.waiting(1)
        folder.with_name("moved").rename(folder)
        await spool.keep("s1", "p1", AT)
        assert await spool.ping()
        assert len(list(folder.iterdir())) == 1
    with pytest.raises(SpoolUnavailable):
        await spool.keep("s1", "p1", AT)


async def test_a_directory_that_cannot_be_right_is_one_sentence(tmp_path: Path) -> None:
    file, shared = tmp_path / "file", tmp_path / "shared"
    file.touch()
    shared.mkdir()
    shared.chmod(0o777)
    for wrong in (file, shared, tmp_path / "no" / "such", file / "below"):
        with pytest.raises(SettingsError, match=r"^SPOOL_DIR: .*[.]$"):
            await FileSpool(wrong, KEYS).start()
    async with started(shared / "own") as spool:
        await spool.keep("s1", "p1", AT)


async def test_a_slow_disk_holds_nobody_up_for_long(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "DISK_SECONDS", 0.01)
    written, fsync = threading.Event(), os.fsync

    def slow(file: int) -> None:
        written.wait(30)
        fsync(file)

    async with started(folder) as spool:
        monkeypatch.setattr(os, "fsync", slow)
        try:
            with pytest.raises(SpoolUnavailable, match="disk"):
                await spool.keep("s1", "p1", AT)
        finally:
            written.set()
