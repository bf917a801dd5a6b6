"""Papers from arXiv."""
