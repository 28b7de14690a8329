"""Federated fine-tuning: many clients train, one server averages, and no row leaves its client."""
