"""Keeps server processes for whoever started it, and ends them when that process is gone, however it went.

The owner holds one end of a pipe: even a SIGKILL closes it. Standard library only: this file is run by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from threading import Lock
from typing import IO, Any, Final

STOP_SECONDS: Final = 10
"""How long a server may take to stop before it is killed."""


class Keeper:
    """The owner's side: starts the keeping process, and asks it to start and stop servers."""

    def __init__(self, root: Path) -> None:
        command = [sys.executable, "-I", __file__, str(root)]
        self._process = subprocess.Popen(  # noqa: S603 - this very file
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self._lock = Lock()

    def start(self, name: str, argv: list[str], *, env: dict[str, str], log: Path, stop_signal: int) -> int:
        """Start a server; its pid."""
        answer = self._ask(do="start", name=name, argv=argv, env=env, log=str(log), stop_signal=stop_signal)
        return int(answer["pid"])

    def running(self, name: str) -> bool:
        return bool(self._ask(do="running", name=name)["running"])

    def stop(self, name: str, number: int | None = None) -> None:
        """Send it `number`, by default its own way to stop; return when it is gone."""
        self._ask(do="stop", name=name, signal=number)

    def close(self) -> None:
        """Stop every server and remove their data."""
        assert self._process.stdin  # noqa: S101 - made with a pipe
        assert self._process.stdout  # noqa: S101 - made with a pipe
        self._process.stdin.close()
        self._process.wait(4 * STOP_SECONDS)
        self._process.stdout.close()

    def _ask(self, **request: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        with self._lock:
            assert self._process.stdin  # noqa: S101 - made with a pipe
            assert self._process.stdout  # noqa: S101 - made with a pipe
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise OSError(answer["error"])
        return answer


class Kept:
    """The keeping process: what it has started."""

    def __init__(self) -> None:
        self._servers: dict[str, tuple[subprocess.Popen[bytes], int]] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            result: dict[str, Any] = getattr(self, f"_{request.pop('do')}")(**request)
        except (OSError, subprocess.SubprocessError) as error:
            return {"error": str(error)}
        return result

    def stop_all(self) -> None:
        for process, stop_signal in self._servers.values():
            _send(process, stop_signal)
        for process, _ in self._servers.values():
            _await_end(process)

    def _start(self, name: str, argv: list[str], env: dict[str, str], log: str, stop_signal: int) -> dict[str, Any]:
        with Path(log).open("ab") as file:
            process = subprocess.Popen(  # noqa: S603 - asked by our owner
                argv, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
        self._servers[name] = (process, stop_signal)
        return {"pid": process.pid}

    def _running(self, name: str) -> dict[str, Any]:
        return {"running": self._servers[name][0].poll() is None}

    def _stop(self, name: str, signal: int | None) -> dict[str, Any]:
        process, stop_signal = self._servers[name]
        _send(process, stop_signal if signal is None else signal)
        _await_end(process)
        return {}


def _send(process: subprocess.Popen[bytes], number: int) -> None:
    if process.poll() is None:
        process.send_signal(number)
        # One that is stopped hears nothing else.
        process.send_signal(signal.SIGCONT)


def _await_end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)


def keep(asked: IO[str], answers: IO[str], root: Path) -> None:
    """Do what is asked, line by line, until nobody can ask any more; then leave nothing behind."""
    kept = Kept()
    try:
        for line in asked:
            answer = kept.answer(json.loads(line))
            with contextlib.suppress(BrokenPipeError):
                answers.write(json.dumps(answer) + "\n")
                answers.flush()
    finally:
        kept.stop_all()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(_number, signal.SIG_IGN)
    keep(sys.stdin, sys.stdout, Path(sys.argv[1]))
    # What could not be written to an owner that is gone is nobody's error.
    os._exit(0)
