"""Data sets, protocols and metrics. A benchmark knows no method and no encoder."""
