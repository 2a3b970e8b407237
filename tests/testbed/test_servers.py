"""The testbed itself: fresh databases, servers that die and come back, and nothing left behind by a killed test run."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.binaries import Missing, named, packaged
from testbed.plugin import TestServers
from testbed.servers import ENGINES, Server, Testbed

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("name", ENGINES)
def test_each_url_is_a_database_of_its_own(database: Callable[[str], str], name: str) -> None:
    urls = {database(name) for _ in range(2)}
    assert len(urls) == 2


@pytest.mark.parametrize("name", ENGINES)
def test_a_killed_server_comes_back_where_it_was(own_server: Callable[[str], Server], name: str) -> None:
    server = own_server(name)
    url, port, pid = server.url(), server.port, server.pid
    server.kill()
    assert not server.running()
    assert not ENGINES[name].answers(url)
    server.start()
    assert server.running()
    assert (server.port, server.pid != pid) == (port, True)
    assert ENGINES[name].answers(server.admin_url)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_servers_end_with_a_test_run_that_is_killed(servers: TestServers) -> None:
    servers.admin_url("valkey")  # or skipped
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from testbed.servers import Testbed\n"
        "testbed = Testbed(); server = testbed.own('valkey')\n"
        "print(server.pid, testbed._root, flush=True); sys.stdin.read()"
    )
    command, pipe = [sys.executable, "-c", code, str(ROOT)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as owner:
        assert owner.stdout
        assert owner.stderr
        pid, root = owner.stdout.readline().split()
        assert not gone(int(pid))
        owner.send_signal(signal.SIGKILL)
        # The keeper has it from its owner: it ends with the keeper.
        assert owner.stderr.read() == ""
    assert gone(int(pid))
    assert not Path(root).exists()


def test_what_is_missing_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Missing, match="the package nosuchpackage has no server"):
        packaged("nosuchpackage", "bin/*")
    monkeypatch.setenv("MONGOD", "/nowhere/mongod")
    with pytest.raises(Missing, match="MONGOD=/nowhere/mongod cannot be run"):
        named("MONGOD")


def test_a_server_that_is_named_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TULBUR_TEST_POSTGRES_URL", "postgresql://elsewhere/postgres")
    testbed = Testbed()
    assert testbed.admin_url("postgres") == "postgresql://elsewhere/postgres"
    testbed.close()
