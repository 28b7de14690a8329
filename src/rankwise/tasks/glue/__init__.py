"""GLUE: its tasks, their rows from local files or the Hub, and how they are split."""
