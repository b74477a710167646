"""What whole runs write or publish."""
