"""VTAB-1K: nineteen tasks of image classification with 1,000 training images each."""
