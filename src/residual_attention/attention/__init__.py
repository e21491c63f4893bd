"""The attention masks of a network: recording them, and drawing them over images."""

from .masks import attention_masks, record_masks

__all__ = ["attention_masks", "record_masks"]
