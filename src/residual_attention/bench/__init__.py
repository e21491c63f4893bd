"""Speed, measured side by side: ``ran bench``. Each figure is a median over interleaved rounds in one process."""
