"""How panels show numbers: Tango's own format has two digits after the point, and no more."""

READING = "%.6g"
"""Of what is read: rates, levels, times."""
SECONDS = "%.9g"
"""Of times that are set: to the microsecond, also of a quarter of an hour."""
