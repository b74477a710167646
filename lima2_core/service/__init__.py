"""Who drives it: services, runs and the threads they own."""
