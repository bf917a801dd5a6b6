"""Fresh code from git repositories."""
