"""What the runs came to, as lines for a terminal and as a page for the documentation."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Sequence

from proving.chaos.faults import Fault
from proving.chaos.run import Run
from proving.report import machine

MOST_SHOWN = 20


def printed(done: Run) -> Iterator[str]:
    """One run, for whoever waited."""
    yield from (f"{done.counts[fault]:>7,}  {fault}" for fault in done.faults)
    yield f"{done.kind}: {_load(done)}"
    yield f"{done.kind}: sessions ended {_told(done.outcomes)}; callbacks were answered {_told(done.callbacks)}"
    for broken in done.broken[:MOST_SHOWN]:
        yield f"{done.kind}: BROKEN: {broken}"
    if len(done.broken) > MOST_SHOWN:
        yield f"{done.kind}: and {len(done.broken) - MOST_SHOWN} more"
    if done.broken:
        yield from (f"{done.kind}: {line}" for line in done.told)
        yield f"{done.kind}: the logs are in {done.kept}; again with --seed {done.seed}"
    yield from (f"{done.kind}: never struck, so nothing is shown of it: {fault}" for fault in done.silent)


def verdict(runs: Sequence[Run]) -> str:
    """The last word."""
    broken = sum(len(done.broken) for done in runs)
    if broken:
        return f"{broken:,} laws were broken"
    trials = sum(done.acknowledged for done in runs)
    return (
        f"{trials:,} acknowledged callbacks, each with what it stands for: n clean trials bound the failure rate at "
        f"about 3/n = {3 / max(trials, 1):.1e}"
    )


def page(runs: Sequence[Run], commit: str) -> str:
    """A page of Markdown: machine, commit, counts and what they bound."""
    faults = [fault for fault in Fault if any(fault in done.faults for done in runs)]
    names = [done.kind for done in runs]
    lines = [
        "# Chaos: results",
        "",
        "Written by `make chaos`; what is run and how to read it is in [proving.md](proving.md#chaos).",
        "",
        f"- {dt.datetime.now(dt.UTC):%Y-%m-%d}, commit `{commit}`",
        f"- {machine()}",
        *(f"- {done.kind}: {_load(done)}" for done in runs),
        f"- {verdict(runs)}",
        "",
        "How often each fault struck; – where there is no such thing:",
        "",
        f"| fault | {' | '.join(names)} |",
        f"|---|{'---:|' * len(names)}",
        *(f"| {fault} | {' | '.join(_cell(done, fault) for done in runs)} |" for fault in faults),
        "",
        "What came of it:",
        "",
        f"| | {' | '.join(names)} |",
        f"|---|{'---:|' * len(names)}",
        *_row("payments", [done.paid for done in runs]),
        *_row("callbacks answered SUCCESS", [done.callbacks["SUCCESS"] for done in runs]),
        *_row("callbacks answered otherwise, or not", [_unheard(done) for done in runs]),
        *_row("payments whose callback was acknowledged", [done.acknowledged for done in runs]),
        *_row("orders", [done.orders for done in runs]),
        *(line for name in _names(runs) for line in _row(f"sessions {name}", [done.outcomes[name] for done in runs])),
        *_row("laws broken", [len(done.broken) for done in runs]),
    ]
    return "\n".join(lines) + "\n"


def _load(done: Run) -> str:
    return (
        f"{done.paid:,} payments in a storm of {done.storm_seconds:.0f} s (seed {done.seed}), {done.acknowledged:,} of "
        f"them acknowledged; all at rest and judged {done.calm_seconds:.0f} s after it"
    )


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())


def _unheard(done: Run) -> int:
    return done.callbacks.total() - done.callbacks["SUCCESS"]


def _names(runs: Sequence[Run]) -> list[str]:
    return [name for name, _ in sum((done.outcomes for done in runs), Counter[str]()).most_common()]


def _cell(done: Run, fault: Fault) -> str:
    return f"{done.counts[fault]:,}" if fault in done.faults else "–"


def _row(name: str, counts: Sequence[int]) -> Iterator[str]:
    yield f"| {name} | {' | '.join(f'{count:,}' for count in counts)} |"
