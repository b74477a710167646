"""Pipelines, and the tasks, sinks and kernels they are made of."""
