"""Object detection on the network's stages: PASCAL VOC and COCO data, torchvision's detectors, the core's loop."""
