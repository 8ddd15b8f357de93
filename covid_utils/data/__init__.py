"""Data floor: readers, manifest, splits, preprocessing, augmentation and cache."""
