"""The tasks on the user's own data, as they are known before their files, which need torch."""

from __future__ import annotations

VERSION = 1
TEXT_CLASSIFICATION = "text-classification"
IMAGE_CLASSIFICATION = "image-classification"
SFT = "sft"
CAUSAL_LM = "causal-lm"
CLASS_METRICS = ("accuracy", "macro_f1")
REGRESSION_METRICS = ("pearson", "spearman", "r2")
TOKEN_METRICS = ("likelihood", "perplexity")

METRICS = {
    TEXT_CLASSIFICATION: CLASS_METRICS,
    IMAGE_CLASSIFICATION: CLASS_METRICS,
    SFT: TOKEN_METRICS,
    CAUSAL_LM: TOKEN_METRICS,
}
"""The metrics by task, the headline first; of a regression they are ``REGRESSION_METRICS``."""

ALLOWED_METRICS = {
    "classes": (*CLASS_METRICS, "f1", "matthews"),
    "regression": REGRESSION_METRICS,
    "tokens": TOKEN_METRICS,
}
"""The metrics that fit what is answered: classes, numbers, or the likelihood of tokens."""
