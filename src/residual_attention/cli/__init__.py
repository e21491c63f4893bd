"""The command line, ``ran``. Nothing imports this package; each command imports its heavy parts when called."""
