"""The commands of `python -m collectors`, a module for each: `add_arguments` and `run`."""
