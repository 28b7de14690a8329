"""What the pages of results have in common: their frame, colours, charts and ways of writing."""
