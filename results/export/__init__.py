"""Finished runs given to other trackers: wandb, MLflow, and the `model-index` of a model card on the Hugging Face Hub.

Each is read from records alone. A run keeps its name there, and is never there twice: what has not changed since it was
exported is left alone, what has is replaced.
"""
