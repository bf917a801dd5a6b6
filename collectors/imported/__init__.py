"""Data sets that others made: from a folder, or from the Hugging Face hub."""
