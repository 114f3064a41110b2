"""The shared retrieval layer: encoders, embedding store, memory, indexes. Every method reads its neighbours here."""
