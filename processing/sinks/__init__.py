"""Where frames and records end."""
