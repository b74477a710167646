"""The commands of ``lima2`` that a user of a detector needs; each a module with a ``main``."""
