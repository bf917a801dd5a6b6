"""The report: what the pipeline wrote, as one page."""
