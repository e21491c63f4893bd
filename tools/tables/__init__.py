"""The tables of the README and the docs, one module per subject, from the ledger and ``results/``."""
