"""reco: refine image and text embeddings with what a memory retrieves. Given captions; labels are never read."""
