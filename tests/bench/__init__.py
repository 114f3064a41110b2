"""Speed as ratios against the obvious baseline, measured in one run: `make bench`. Nothing here is a test."""
