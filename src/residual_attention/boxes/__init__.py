"""Images with boxes: VOC, COCO, CSV and YOLO files in any layout, and what is wrong with them."""
