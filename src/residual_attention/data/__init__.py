"""Data sets, images, preprocessing, batches."""
