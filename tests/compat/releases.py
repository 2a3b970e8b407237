"""Two other releases of tulbur, as source trees: the one before this one, and one that comes after it.

The release before is the last tag `v*` behind HEAD; without one, the last commit whose schema is another; without one,
the commit before HEAD. Where git cannot say (an unpacked archive, a clone of depth 1) this source stands in for it:
then only what comes after is another release. The one used is named at the end of every test run.

The release after is made of this one: a further revision of the schema, and a further field in every object of a
session's document.
"""

from __future__ import annotations

import ast
import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tulbur.core import codec
from tulbur.stores import migrate

ROOT = Path(__file__).parent.parent.parent
MOST_COMMITS = 200
"""How far back a commit with another schema is looked for."""

_SCHEMA = ("src/tulbur/stores/migrate.py", "src/tulbur/stores/mongo_migrate.py")
_REVISION = re.compile(r'"(\d{4})_min(\d{4})"')


@dataclass(frozen=True)
class Release:
    """A source tree and what it is.

    `head` is the newest revision of its schema; `grows` whether it reads documents that a later one added to.
    """

    src: Path
    name: str

    @property
    def head(self) -> str:
        return _heads((self.src.parent / name).read_text() for name in _SCHEMA)[0]

    @property
    def grows(self) -> bool:
        return (self.src / "tulbur/core/later.py").exists()


def _heads(texts: Iterable[str]) -> list[str]:
    return [f"{found[-1][0]}_min{found[-1][1]}" for text in texts if (found := _REVISION.findall(text))]


def _git(*arguments: str) -> bytes:
    """What git says, nothing where it has no answer."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return b""
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).stdout


def _words(*arguments: str) -> list[str]:
    return _git(*arguments).decode().split()


def reference() -> tuple[str, str]:
    """The commit that is the release before, "" where there is none, and what it is."""
    if not _words("rev-parse", "--verify", "--quiet", "HEAD~1"):
        why = "git has no earlier commit here" if _words("rev-parse", "HEAD") else "there is no git history here"
        return "", f"this very source, because {why}"
    for tag in _words("describe", "--tags", "--abbrev=0", "--match=v*", "HEAD~1"):
        return tag, f"the tag {tag}"
    ours = _heads((ROOT / name).read_text() for name in _SCHEMA)
    commits = _words("log", "--first-parent", f"--max-count={MOST_COMMITS}", "--format=%H", "HEAD~1", "--", *_SCHEMA)
    for commit in commits:
        theirs = _heads(_git("show", f"{commit}:{name}").decode() for name in _SCHEMA)
        if len(theirs) == len(ours) and theirs != ours:
            return commit, f"{commit[:12]}, the last commit with another schema, {' and '.join(theirs)}"
    (commit,) = _words("rev-parse", "HEAD~1")
    return commit, f"{commit[:12]}, the commit before HEAD (no tag v* and no other schema is behind it)"


def this_release() -> Release:
    return Release(ROOT / "src", "this release")


def release_before(folder: Path) -> Release:
    """The release before, unpacked into `folder`."""
    commit, name = reference()
    if not commit:
        return Release(ROOT / "src", name)
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", commit, "src"))) as archive:
        archive.extractall(folder, filter="data")
    return Release(folder / "src", name)


def release_after(folder: Path) -> Release:
    """This release with additions of every kind, in `folder`."""
    made = Release(folder / "src", "a release after this one")
    shutil.copytree(ROOT / "src", made.src, ignore=shutil.ignore_patterns("__pycache__"))
    package = made.src / "tulbur"
    for cls in codec._NESTED:
        _edit(package / f"{cls.__module__.removeprefix('tulbur.').replace('.', '/')}.py", _with_field(cls.__name__))
    _edit(package / "core/later.py", _substituted(r"^(ADDITIONS: Final = )(\d+)$", lambda m: f"{m[1]}{int(m[2]) + 1}"))
    head = migrate.HEAD
    following = f"{int(head[:4]) + 1:04d}{head[4:]}"
    _edit(package / "stores/migrate.py", _substituted(rf'^(HEAD: Final = ")({head})', lambda m: m[1] + following))
    revision = _REVISION_FILE.format(revision=following, before=head)
    (package / f"stores/migrations/versions/{following[:4]}_gifts.py").write_text(revision)
    step = _MONGO_STEP.format(head=head[4:])
    _edit(package / "stores/mongo_migrate.py", _substituted(r"^HEAD: Final = ", lambda m: f"{step}{m[0]}"))
    return made


Change = Callable[[str], str]


def _edit(path: Path, change: Change) -> None:
    path.write_text(change(path.read_text()))


def _substituted(pattern: str, by: Callable[[re.Match[str]], str]) -> Change:
    def change(text: str) -> str:
        changed, number = re.subn(pattern, by, text, flags=re.MULTILINE)
        assert number == 1, pattern
        return changed

    return change


def _with_field(cls: str) -> Change:
    def change(text: str) -> str:
        (found,) = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef) and node.name == cls)
        last = max(node.end_lineno or 0 for node in found.body if isinstance(node, ast.AnnAssign))
        lines = text.splitlines(keepends=True)
        return "".join([*lines[:last], '    gift: str = ""\n', *lines[last:]])

    return change


_REVISION_FILE = '''\
"""A column, an index and a table more; the release before knows nothing of them."""

from alembic import op
from sqlalchemy import BigInteger, Column

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tulbur_sessions", Column("gift", BigInteger))
    op.add_column("tulbur_payments", Column("gift", BigInteger, server_default="7", nullable=False))
    op.create_index("tulbur_sessions_gift", "tulbur_sessions", ["gift", "id"])
    op.create_table("tulbur_gifts", Column("id", BigInteger, primary_key=True), mysql_engine="InnoDB")


def downgrade() -> None:
    raise NotImplementedError
'''

_MONGO_STEP = """\
def _gifts(database: _Db) -> None:
    database.create_collection("tulbur_gifts")
    database["tulbur_sessions"].create_index([("gift", 1), ("_id", 1)], name="gift")


STEPS = (*STEPS, Step(f"{{int(STEPS[-1].revision[:4]) + 1:04d}}{head}", _gifts, _before_first))
"""
