"""The chain from the results back to the raw bytes, checked link by link."""
