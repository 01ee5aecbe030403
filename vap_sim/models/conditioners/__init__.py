"""Conditioners that show CogVideoX an action once: a demonstration clip, or what was learned from one.

Each fulfils the protocol of `vap_sim.models.cogvideox.injection` and needs the extra `diffusion`.
"""
