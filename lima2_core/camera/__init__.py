"""What a detector has to promise, and the parameters every camera understands."""
