"""What flows: frames, records, the memory they lie in, and their form on the wire."""
