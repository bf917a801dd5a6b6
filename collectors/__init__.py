"""From the world to corpora: collect, extract and deduplicate text with proof of when it was published."""
