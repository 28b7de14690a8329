"""The label that no loss counts, the same number in PyTorch, Transformers and here."""

IGNORED_LABEL = -100
