"""Generation: instructions to train on, questions to answer, and the causal models for both."""
