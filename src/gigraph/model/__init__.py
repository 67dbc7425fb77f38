"""From a user's model to a network of cut points, and the relevance of its positions."""
