"""What is allowed: tables of states and events, without threads and without I/O."""
