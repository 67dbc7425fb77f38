"""From a folder of images to the network's inputs, and to small pictures."""
