"""tulbur with one defect, which its first word names: `planted_program.py DEFECT serve …`."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from tulbur import cli
from tulbur.payments import Payments

LATER_SECONDS: Final = 60.0
"""Longer than any `serve` lives in a run that kills both."""


def success_before_the_hint_is_stored() -> None:
    heard = Payments.callback
    later = set()

    async def hear_later(payments: Payments, session_id: str, payment_id: str) -> str:
        await asyncio.sleep(LATER_SECONDS)
        return await heard(payments, session_id, payment_id)

    async def callback(payments: Payments, session_id: str, payment_id: str) -> str:
        later.add(asyncio.create_task(hear_later(payments, session_id, payment_id)))
        return "waiting"

    Payments.callback = callback


DEFECTS: Final = {"success-too-soon": success_before_the_hint_is_stored, "none": lambda: None}

if __name__ == "__main__":
    DEFECTS[sys.argv.pop(1)]()
    cli.main()
