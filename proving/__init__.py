"""The use cases on a seeded event loop whose time is virtual, among ports that fail: one seed, one run, one verdict.

`loop` is the clock and the order of things, `faults` what may go wrong and how often it did, `faulty_*` and `qpay` the
ports it goes wrong at, `world` the processes, `oracle` the laws, `acts` what shops, payers and QPay do, `schedules`
one run from its seed. `python -m proving` runs many. Not shipped.
"""
