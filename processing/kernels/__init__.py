"""Pixel arithmetic: arrays in, arrays out."""
