"""CogVideoX behind the project's protocols: the backbone, its codec and text, and what may enter a denoising pass.

Needs the extra `diffusion`. Nothing here is imported before it is asked for, and diffusers only when it is used.
"""
