"""Shortcuts that a trained classifier relies on: where its evidence lies, and what a spot alone does to its answers."""
