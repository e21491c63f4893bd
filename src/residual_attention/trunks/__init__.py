"""Attention residual learning on any of timm's convolutional networks, whose trained weights it starts from.

timm is imported only where a network of its is built: predicting with the family's networks does not need it.
"""
