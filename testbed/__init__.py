"""Real servers for the tests, started by themselves: PostgreSQL, MariaDB, MongoDB and Valkey, without root.

`binaries` finds the programs, `keeper` ends them whatever happens to whoever asked for them, one module per server says
how it is started and given an empty database, `servers` is what tests use, `plugin` gives it to pytest.
"""
