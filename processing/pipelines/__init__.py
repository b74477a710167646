"""Pipelines; found by entry point."""
