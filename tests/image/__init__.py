"""The container image: built from the Dockerfile as it is, without a registry, and run."""
