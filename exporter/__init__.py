"""A Prometheus exporter for egress paths: where TCP traffic stops, and who stops it."""

__version__ = "0.1.0"
