"""The page of federations: its tables, its charts and its text."""
