"""Speed, measured side by side: ``ran bench``. Every figure is a median over interleaved rounds in one process."""
