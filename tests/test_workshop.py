"""The workshop's promises: reproducible locks, helpful commands, no trace of one machine in the files."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = ["demo", "test", "lock"]
PIN = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]*)==(?P<version>[\w.+!]+)(?: ; (?P<marker>[^\\]+?))?(?: \\)?")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")
FORBIDDEN = ["/wor" + "k/main", "/wor" + "k/shared", "py" + "pi.org", "files.python" + "hosted.org"]


def lock_lines(name: str) -> list[str]:
    return (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()


def pins(name: str) -> set[str]:
    return {line.removesuffix(" \\") for line in lock_lines(name) if not line.startswith(" ")}


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", "-C", ROOT, *arguments], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_pins_and_hashes_only(name: str) -> None:
    lines = lock_lines(name)
    assert lines
    assert [line for line in lines if not PIN.fullmatch(line) and not HASH.fullmatch(line)] == []


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_a_hash(name: str) -> None:
    lines = lock_lines(name)
    following = [*lines[1:], ""]
    bare = [
        pin for pin, after in zip(lines, following, strict=True) if PIN.fullmatch(pin) and not HASH.fullmatch(after)
    ]
    assert bare == []


def test_the_demo_runs_on_what_was_tested() -> None:
    assert pins("demo") <= pins("test")


def test_help_names_every_target() -> None:
    targets = set(re.findall(r"^\.PHONY: (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = make("help").stdout
    assert set(re.findall(r"^make (\S+) +\S", shown, re.MULTILINE)) == targets
    assert {"help", "setup", "demo", "test", "check", "bench", "lock", "clean"} <= targets
    assert make().stdout == shown


class Machine:
    """A PATH with nothing on it but made-up programs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str, body: str) -> Path:
        program = self.folder / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
        return program

    def has_python(self, name: str, version: str, *, ensurepip: bool = True) -> Path:
        major, minor = version.split(".")
        return self.has(
            name,
            f'case "$2" in *ensurepip*) exit {0 if ensurepip else 1} ;; esac\necho "{major} {minor} $0"',
        )

    def run(self, script: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", ROOT / "scripts" / script],
            env={"PATH": str(self.folder), **env},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_fitting_python_is_found(machine: Machine) -> None:
    machine.has_python("python3", "3.9")
    fitting = machine.has_python("python3.12", "3.12")
    assert machine.run("find-python").stdout == f"{fitting}\n"


def test_this_python_is_found_by_its_name(machine: Machine) -> None:
    done = machine.run("find-python", PYTHON=sys.executable)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{sys.executable}\n", "")


def test_a_shim_that_leads_nowhere_is_passed_over(machine: Machine) -> None:
    machine.has("python3.11", "echo 'python3.11: command not found' >&2; exit 127")
    fitting = machine.has_python("python3", "3.13")
    done = machine.run("find-python")
    assert (done.stdout, done.stderr) == (f"{fitting}\n", "")


def test_a_python_without_ensurepip_is_passed_over(machine: Machine) -> None:
    machine.has_python("python3.11", "3.11", ensurepip=False)
    fitting = machine.has_python("python3.13", "3.13")
    assert machine.run("find-python").stdout == f"{fitting}\n"


def test_no_python_at_all_is_said(machine: Machine) -> None:
    done = machine.run("find-python")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no python3 runs here" in done.stderr
    assert "apt install python3 python3-venv" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("version", ["2.7", "3.9", "3.10"])
def test_an_old_python_is_said(machine: Machine, version: str) -> None:
    machine.has_python("python3", version)
    done = machine.run("find-python")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"needs Python 3.11 or later, but python3 is Python {version}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_ensurepip_is_said(machine: Machine) -> None:
    machine.has_python("python3", "3.11", ensurepip=False)
    done = machine.run("find-python")
    assert (done.returncode, done.stdout) == (1, "")
    assert "apt install python3.11-venv" in done.stderr


def test_the_named_python_is_the_only_candidate(machine: Machine) -> None:
    machine.has_python("python3.11", "3.11")
    done = machine.run("find-python", PYTHON="/nowhere/python")
    assert (done.returncode, done.stdout) == (1, "")
    assert "PYTHON=/nowhere/python does not run" in done.stderr


def test_a_chromium_that_runs_is_found(machine: Machine) -> None:
    machine.has("chromium", "exit 1")
    fitting = machine.has("chromium-browser", "echo Chromium")
    done = machine.run("ensure-chromium")
    assert (done.returncode, done.stdout) == (0, f"{fitting}\n")


def test_the_named_chromium_is_the_only_candidate(machine: Machine) -> None:
    machine.has("chromium", "echo Chromium")
    done = machine.run("ensure-chromium", CHROMIUM="/nowhere/chromium")
    assert (done.returncode, done.stdout) == (1, "")
    assert "CHROMIUM=/nowhere/chromium does not run" in done.stderr


@pytest.mark.parametrize(("ci", "status"), [("", 0), ("true", 1)])
def test_a_missing_chromium_fails_only_in_ci(machine: Machine, ci: str, status: int) -> None:
    machine.has("apt-get", "exit 0")
    machine.has("id", "echo 1000")
    done = machine.run("ensure-chromium", CI=ci)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("browser tests skipped: no chromium here and only root can install it;")


def test_an_installation_that_fails_is_shown(machine: Machine) -> None:
    for name in ("mktemp", "rm", "tail"):
        (machine.folder / name).symlink_to(str(shutil.which(name)))
    machine.has("id", "echo 0")
    machine.has("apt-get", 'echo "E: no such package" >&2; exit 100')
    done = machine.run("ensure-chromium")
    assert (done.returncode, done.stdout) == (0, "")
    assert "E: no such package" in done.stderr
    assert "apt-get could not install chromium" in done.stderr


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="asks git for the files, and this is no checkout")
def test_no_file_tells_where_it_was_written() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    told = [
        (file.relative_to(ROOT).as_posix(), word)
        for file in files
        if file.is_file()
        for word in FORBIDDEN
        if word.encode() in file.read_bytes()
    ]
    assert told == []


def test_the_architecture_fits_on_one_page() -> None:
    page = ROOT / "ARCHITECTURE.md"
    if page.exists():
        assert len(page.read_text().splitlines()) < 60
