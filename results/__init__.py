"""Run records, statistics and leaderboards. Nothing here loads a model."""
