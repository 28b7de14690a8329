"""The tasks on the user's own data, as they are known before their files, which need torch."""

from __future__ import annotations

VERSION = 1
TEXT_CLASSIFICATION = "text-classification"
IMAGE_CLASSIFICATION = "image-classification"
TOKEN_CLASSIFICATION = "token-classification"
SFT = "sft"
TEXT_TO_TEXT = "text-to-text"
CAUSAL_LM = "causal-lm"
PREFERENCE = "preference"
CLASS_METRICS = ("accuracy", "macro_f1")
REGRESSION_METRICS = ("pearson", "spearman", "r2")
TOKEN_METRICS = ("likelihood", "perplexity")
PAIR_METRICS = ("reward_accuracy", "reward_margin")
TEXT_METRICS = ("exact_match", "rouge1", "rouge2", "rougeL")
ENTITY_METRICS = ("entity_f1", "word_accuracy")
WORD_METRICS = ("word_accuracy", "word_macro_f1")

METRICS = {
    TEXT_CLASSIFICATION: CLASS_METRICS,
    IMAGE_CLASSIFICATION: CLASS_METRICS,
    TOKEN_CLASSIFICATION: ENTITY_METRICS,
    SFT: TOKEN_METRICS,
    TEXT_TO_TEXT: TOKEN_METRICS,
    CAUSAL_LM: TOKEN_METRICS,
    PREFERENCE: PAIR_METRICS,
}
"""The metrics by task, the headline first; see ``REGRESSION_METRICS`` and ``WORD_METRICS`` too."""

ALLOWED_METRICS = {
    "classes": (*CLASS_METRICS, "f1", "matthews"),
    "regression": REGRESSION_METRICS,
    "tokens": TOKEN_METRICS,
    "texts": TEXT_METRICS,
    "pairs": PAIR_METRICS,
    "words": ("entity_f1", *WORD_METRICS),
}
"""The metrics that fit what is answered: classes, numbers, classes of words, texts,
pairs, or the likelihood of tokens."""
