"""What authors of methods, benchmarks, encoders and rankers check theirs with; see docs/add-a-method.md."""
