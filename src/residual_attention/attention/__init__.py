"""The attention masks of a network: recording them, reading and measuring them, and drawing them over images."""
