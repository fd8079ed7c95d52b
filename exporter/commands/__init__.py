"""What each command does: serve, trace, check. `exporter.__main__` imports the one that is run."""
