"""Image-text retrieval: pictures and captions that ask for each other, Flickr30k and COCO by Karpathy's splits."""
