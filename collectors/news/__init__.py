"""Articles of news sites."""
