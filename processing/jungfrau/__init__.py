"""JUNGFRAU: calibration files, layout of modules, pedestals."""
