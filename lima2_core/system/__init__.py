"""The whole system as one: coordinator, frame ledger, merged results, outputs of a run."""
