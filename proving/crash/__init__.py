"""A process of tulbur that really dies: SIGKILL at each line it executes and at each edge of what it says to others.

Each trial forks a process on a real database. It does one use case and is killed at one point; another process on the
same database recovers, and the laws are judged by what the database then holds. QPay lives in the process that forks,
so it outlives them all. `python -m proving.crash` runs the whole table. Not shipped.
"""
