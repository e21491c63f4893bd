"""The training core: configuration, recipes, loop, run folder. Imports no torch by itself."""
