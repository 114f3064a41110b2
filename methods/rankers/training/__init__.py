"""`trireme train ranker`: ranking data as RAR builds it, and LoRA of a multimodal model on it."""
