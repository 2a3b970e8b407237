"""Which commit is the release before."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.compat import releases

NOBODY = {
    **{f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


class Repository:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.git("init", "--quiet")

    def git(self, *words: str) -> str:
        command = ["git", "-C", str(self.root), *words]
        return subprocess.run(command, env={**os.environ, **NOBODY}, capture_output=True, text=True, check=True).stdout

    def commit(self, revision: str, *, mongo: str = "0001_min0001") -> str:
        for name, text in zip(releases._SCHEMA, (revision, mongo), strict=True):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(f'HEAD = "{text}"')
        self.git("add", ".")
        self.git("commit", "--quiet", "--allow-empty", "--message=x")
        return self.git("rev-parse", "HEAD").strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    monkeypatch.setattr(releases, "ROOT", tmp_path)
    return Repository(tmp_path)


def test_it_is_the_last_tag_behind_head(repository: Repository) -> None:
    repository.commit("0001_min0001")
    repository.git("tag", "v0.1.0")
    repository.commit("0002_min0001")
    repository.git("tag", "other")
    repository.commit("0003_min0001")
    assert releases.reference() == ("v0.1.0", "the tag v0.1.0")
    repository.git("tag", "v0.2.0")
    assert releases.reference()[0] == "v0.1.0", "a release is not the one before itself"


def test_without_a_tag_it_is_the_last_one_with_another_schema(repository: Repository) -> None:
    repository.commit("0001_min0001")
    older = repository.commit("0002_min0001")
    repository.commit("0003_min0001")
    repository.commit("0003_min0001")
    commit, name = releases.reference()
    assert commit == older
    assert "0002_min0001 and 0001_min0001" in name
    sql_alone = repository.commit("0003_min0001")
    repository.commit("0003_min0001", mongo="0002_min0001")
    assert releases.reference()[0] != older
    assert repository.git("rev-parse", f"{sql_alone}^{{tree}}") == repository.git(
        "rev-parse", f"{releases.reference()[0]}^{{tree}}"
    )


def test_without_either_it_is_the_commit_before(repository: Repository) -> None:
    before = repository.commit("0001_min0001")
    repository.commit("0001_min0001")
    commit, name = releases.reference()
    assert (commit, "the commit before HEAD" in name) == (before, True)


def test_where_git_cannot_say_it_is_this_source(repository: Repository, tmp_path: Path) -> None:
    repository.commit("0001_min0001")
    assert releases.reference() == ("", "this very source, because git has no earlier commit here")
    shutil.rmtree(tmp_path / ".git")
    assert releases.reference() == ("", "this very source, because there is no git history here")
    assert releases.release_before(tmp_path / "unused").src == tmp_path / "src"


def test_a_shallow_clone_has_no_release_before(
    repository: Repository, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        repository.commit("0001_min0001")
    shallow = tmp_path_factory.mktemp("shallow")
    repository.git("clone", "--quiet", "--depth=1", f"file://{repository.root}", str(shallow))
    monkeypatch.setattr(releases, "ROOT", shallow)
    assert releases.reference() == ("", "this very source, because git has no earlier commit here")
