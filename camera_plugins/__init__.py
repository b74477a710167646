"""Cameras; found by entry point, one folder each."""
