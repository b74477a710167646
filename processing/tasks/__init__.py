"""Kernels wrapped for the chain of a pipeline."""
