"""What masks bring to a trained trunk: the parts of ``trunk_transfer.py``; `trial` runs one cell of the experiment."""
