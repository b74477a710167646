"""The camera that plays recorded files."""
