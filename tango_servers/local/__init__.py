"""Embedded surroundings: Tango database, conductor and servers as child processes.

Demonstration and tests use them. Each is a context manager that leaves no process behind, keeps
its files in the folder it is given, and listens on 127.0.0.1 where it can be told to.
"""
