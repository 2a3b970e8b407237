"""The figures to reach, each run as a whole: real processes and servers under load, or days of virtual time.

A figure says what it did, counts every fault that struck, and fails when one that it lists never did.
"""
