"""The tables of the README and the docs, a module a subject, from the ledger and ``results/``."""
