"""Acquisition core of the LImA2 suite."""
