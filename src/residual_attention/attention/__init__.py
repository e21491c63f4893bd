"""The attention masks of a network: recording, reading, measuring and drawing them."""
