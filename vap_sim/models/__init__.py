"""World models: the protocol, the worlds that fulfil it, and their weights on disk."""
