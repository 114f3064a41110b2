"""knn: the labels of the nearest memory pictures. Given the labels of its support pictures."""
