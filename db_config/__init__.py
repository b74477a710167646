"""Data only: deployments, one folder each, that `lima2 register` writes into a Tango database."""
