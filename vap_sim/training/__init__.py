"""Training: one loop, one recipe a model, clips from recorded episodes."""
