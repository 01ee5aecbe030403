"""The embedded world model: small networks that dream in layers, in real time on a CPU."""
