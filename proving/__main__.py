"""`python -m proving`: run many seeds on all cores, say what struck and how fast, and show the first that failed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from proving.many import Many, run_many
from proving.report import page, printed
from proving.schedules import Recipe, run
from proving.shrinking import shrunk

LAST_LINES = 60


def main() -> int:
    """0 when every law held and every listed fault has struck; else 1."""
    arguments = _arguments()
    if arguments.replay is not None:
        return _replay(arguments.replay)
    done = run_many(arguments.start, arguments.seeds, arguments.budget, arguments.cores, _at_once)
    print("\n".join(printed(done)))
    if arguments.page is not None:
        Path(arguments.page).write_text(page(done), encoding="utf-8")
    if done.failed:
        _show(done)
    return 1 if done.failed or done.silent else 0


def _at_once(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m proving", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many to run")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--budget", type=float, default=0.0, help="seconds after which no more are begun; 0: no end")
    parser.add_argument("--cores", type=int, default=0, help="processes; 0: one per core")
    parser.add_argument("--page", help="write the results as a page to this file")
    parser.add_argument("--replay", type=int, help="run this seed alone and tell its story")
    return parser.parse_args()


def _replay(seed: int) -> int:
    verdict = run(Recipe(seed), trace=True)
    print("\n".join(verdict.trace))
    print(f"seed {seed}: {verdict.broken or 'every law held'}")
    return 1 if verdict.broken else 0


def _show(done: Many) -> None:
    seed, broken = min(done.failed.items())
    verdict = shrunk(Recipe(seed))
    kept = sorted(fault.name for fault in verdict.counts)
    print(f"\nseed {seed}: {broken}")
    print(f"made shorter: {verdict.recipe.most_checkouts} checkouts at most, faults {', '.join(kept) or 'none'}")
    print("\n".join(verdict.trace[-LAST_LINES:]))
    print(f"tell it all: python -m proving --replay {seed}")


if __name__ == "__main__":
    sys.exit(main())
