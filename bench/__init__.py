"""`make bench`: how fast one process of tulbur is, as a share of what its database can do on the same machine.

Every server is real and a process of its own; what was acknowledged is counted in the database afterwards.
"""
