"""Kernels in OpenCL: on a graphics card with its vendor's driver, on a CPU with PoCL."""
