"""Labelled images: decoding, the packed store, augmentation, and cutting out circles."""
