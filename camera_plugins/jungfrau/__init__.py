"""The JUNGFRAU detector of PSI: adaptive gain, 16 bit, packets over UDP."""
