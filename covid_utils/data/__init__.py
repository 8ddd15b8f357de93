"""Data floor: readers, manifest, splits, preprocessing, augmentation, cache and the phantom."""
