"""A list for multi-label training from annotations in PASCAL VOC layout: which classes each image shows.

python tools/voc_labels.py path/to/VOC labels.csv
ran train labels.csv

Each row has an image's path, its classes as ``a;b`` and its split, from ``ImageSets/Main``; without such lists, ``ran
train`` makes the splits. Objects marked as difficult count. Paths are relative to the list, or absolute with
``--absolute``.
"""

import argparse
import csv
import os
from pathlib import Path

from residual_attention.detection.voc import find_voc, voc_splits
