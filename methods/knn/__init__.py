"""knn: the labels of the nearest memory pictures. Given the labels of its support pictures."""

from trireme.methods.knn.method import Knn, KnnConfig

__all__ = ["Knn", "KnnConfig"]
