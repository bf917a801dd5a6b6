"""HTML pages: text, metadata and the date of publication."""
