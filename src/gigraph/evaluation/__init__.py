"""How far concepts and graph can be trusted."""
