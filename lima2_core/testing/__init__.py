"""Conformance suites, fakes and leak checks for authors of plugins."""
