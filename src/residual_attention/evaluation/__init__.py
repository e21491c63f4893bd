"""Evaluation, figures, report."""
