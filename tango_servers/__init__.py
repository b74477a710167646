"""Tango device servers on top of the core."""
